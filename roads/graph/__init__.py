"""Road centrelines as a graph: skeleton, chains of pixels, edges, tracing; and which roads match.

Imports runtime.
"""
