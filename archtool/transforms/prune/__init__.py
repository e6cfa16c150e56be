"""One prune method per file."""
