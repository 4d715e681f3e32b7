"""The stages of dvc.yaml, a module each.

Under DVC, this notes what a stage reads before its module is imported, which takes seconds: an
edit in that time is noticed too. Ctrl-C in that time ends in one line.
"""

import sys

from roads.runtime.stage import begin

if sys.argv[0] == "-m":  # so it is while `python -m stages.crop` imports, not in its workers
    begin()
