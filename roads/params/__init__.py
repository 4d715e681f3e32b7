"""The sections of params.yaml, a file each, and the rules that hold across them.

Pydantic alone, no Keras. Imports runtime.
"""
