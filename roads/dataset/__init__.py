"""From tiles to packed crops: tables, splits, the grid of crops, stacks, masks, HDF5.

Imports imagery, params and runtime.
"""
