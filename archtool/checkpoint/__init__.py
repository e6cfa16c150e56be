"""Raw checkpoint files: lazy tensor tables, streaming writers, atomic output and model folders.

This layer knows tensors by name, dtype, shape and bytes, and nothing of architectures. Listing a
checkpoint imports no torch.
"""
