"""Pictures as arrays, and where their imagery is missing.

Imports runtime.
"""
