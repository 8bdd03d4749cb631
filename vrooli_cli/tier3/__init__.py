"""Tier 3, execution: one attempt of one step, under a strategy, with tools, limits and safety."""
