"""The stages of dvc.yaml, one module each.

Under DVC, a stage's inputs are recorded before its module is imported. Imports take seconds, and
an edit during them must be noticed too. Ctrl-C during imports prints one line, not a traceback.
"""

import sys

from roads.runtime.stage import begin

if sys.argv[0] == "-m":  # true while `python -m stages.crop` imports this, but not in its workers
    begin()
