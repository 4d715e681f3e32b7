"""Scores, and the curves and pictures that show them.

Imports graph, prediction, dataset, params and runtime.
"""
