"""Writing a model in the formats that other programs load."""
