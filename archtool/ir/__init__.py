"""The representation: architectures, named axes, encodings, edits and costs as pure data (no torch)."""
