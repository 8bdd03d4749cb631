"""Tier 2, process: runs one routine - plan, batches, context, blackboard, resume."""
