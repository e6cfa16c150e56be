"""Transforms: pure functions from a checkpoint (and evidence) to an `Edit`; one method per file."""
