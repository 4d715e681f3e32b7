"""The nets: Keras' backend, the U-Net, its encoders and layers, and weights files.

Imports params and runtime.
"""
