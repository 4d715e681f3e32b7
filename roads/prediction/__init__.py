"""From a net to probabilities, for crops and for pictures of any size.

Imports models, dataset, params and runtime.
"""
