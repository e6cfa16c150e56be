"""The operator vocabulary: one file per operator; nothing here imports torch until a model runs."""
