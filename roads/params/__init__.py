"""The sections of params.yaml, one module each, and the rules across sections.

Pydantic only, no Keras. Imports runtime.
"""
