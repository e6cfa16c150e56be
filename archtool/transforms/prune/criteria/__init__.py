"""How units are scored: one criterion per file, registered by name in `archtool.builtins`."""
