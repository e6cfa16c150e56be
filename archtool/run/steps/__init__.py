"""Steps: one verb per file; each is a recipe step and a command."""
