"""One function over many items: processes of this machine, or a Dask cluster.

Imports params and runtime.
"""
