"""What every part stands on: errors, files, params.yaml, state, a stage's life, arrays.

Imports no other package.
"""
