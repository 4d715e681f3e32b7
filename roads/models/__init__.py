"""The nets: Keras' backend, the U-Net, its encoders, its layers, files of weights.

Imports params and runtime.
"""
