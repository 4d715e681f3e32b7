"""Road centrelines as a graph: skeleton, chains of pixels, edges, tracing; and matching of roads.

Imports runtime.
"""
