"""Where tiles come from: generated, downloaded, or a folder of the user's own.

Imports dataset, imagery, parallel, params and runtime.
"""
