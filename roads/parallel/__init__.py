"""Apply a function to many items, in processes on this machine or on a Dask cluster.

Imports params and runtime.
"""
