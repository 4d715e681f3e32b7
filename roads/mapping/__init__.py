"""Road maps of any picture: rasters, georeferencing, outputs, comparison with other maps.

Imports prediction, graph, imagery, models, params and runtime.
"""
