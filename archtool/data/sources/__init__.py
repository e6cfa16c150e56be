"""Readers, one file per format, and `read`, which chooses among them and finds the split's files."""

from archtool.data.sources.locate import Reading, read

__all__ = ["Reading", "read"]
