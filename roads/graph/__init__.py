"""Road centrelines as a graph: skeleton, chains of pixels, edges, tracing.

Imports runtime.
"""
