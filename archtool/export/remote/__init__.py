"""The `remote` dialect: one readable file that runs any architecture with only torch and transformers."""
