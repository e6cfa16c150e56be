"""Families: Hugging Face configurations and tensor names ↔ architectures; one file per family."""
