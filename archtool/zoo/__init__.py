"""Published architectures without a Hugging Face class, each a function of its settings: one file per architecture."""
