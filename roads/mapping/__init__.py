"""Any picture in, road maps out: rasters, places on Earth, outputs.

Imports prediction, graph, imagery, models, params and runtime.
"""
