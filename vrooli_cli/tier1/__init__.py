"""Tier 1, coordination: goals become tasks, agents become a team, and the team carries the tasks out."""
