"""From text to model: YAML with places, names to files, every problem told with its line."""
