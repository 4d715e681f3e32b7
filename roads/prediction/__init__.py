"""Prediction: probabilities of road from a net, for crops and pictures of any size.

Imports models, dataset, params and runtime.
"""
