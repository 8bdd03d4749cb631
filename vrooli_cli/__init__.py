"""vrooli."""
