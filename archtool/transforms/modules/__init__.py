"""Pruning of modules that no family describes, through torch-pruning's dependency graph (DepGraph, CVPR 2023).

`graph` asks torch-pruning which channels belong together, `masks` and `slices` carry a removal out in two ways that do
not know of each other, `groups` keeps only what both agree on, `criteria` score and `widths` choose.
"""
