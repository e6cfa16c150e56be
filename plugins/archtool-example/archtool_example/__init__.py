"""An example plugin: the squeeze-and-excitation gate and the step ``round-widths``."""
