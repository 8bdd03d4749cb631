"""What stands in the files besides YAML: expressions, shell text, JSON Schema; and the masking of secrets."""
