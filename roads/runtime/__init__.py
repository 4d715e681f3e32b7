"""The base of all packages: errors, files, params.yaml, state, running stages, array types.

Imports no other package.
"""
