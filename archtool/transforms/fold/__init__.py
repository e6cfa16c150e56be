"""Norms that become part of the linear layers beside them."""
