"""One extract method per file."""
