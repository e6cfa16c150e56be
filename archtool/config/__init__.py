"""Typed recipes: YAML with positions in, validated data out, every mistake with its line and column."""
