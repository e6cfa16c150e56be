"""One quantize method per file."""
