"""archtool: budget in, proven compact model out.

The Python API mirrors the command line; every name below is imported only when it is used, so that
``import archtool`` costs no torch.
"""

__version__ = "0.1.0"
