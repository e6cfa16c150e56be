"""The built-in steps, one per file; a step's name is its verb on the command line."""
