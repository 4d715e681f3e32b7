"""Everything from tiles to packed crops: tables, splits, the crop grid, stacks, masks, HDF5.

Imports imagery, params and runtime.
"""
