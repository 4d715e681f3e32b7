# make repro   set up, run the whole pipeline, compare the scores with those in Git
# make experiments   a table of the experiments: the main scores and the params that differ, in 120
#              columns; WIDTH=240 fits more params
# make test    set up, run the tests
# make check   ruff, mypy and the fast tests of every package, in about a minute
# make soak    the long tests: kills at random moments, full disks, damaged files, gigabytes
# make lint    ruff and mypy
# make verify  look for damaged files in DVC's cache, the downloads and the workspace;
#              QUARANTINE=1 moves them away
# make cards   score the released nets on FOLDER=/folder/of/tiles again, and rewrite their cards
# make site    build the documentation as a site, in build/site; a broken link is an error
# make audit   check the installed packages for known vulnerabilities
# make bench   run the benchmarks and write benchmarks/README.md;
#              PARTS="data plain dvc train predict torch", TILES="8 108 1171", SCRATCH=/folder
#
# PYTHON=python3.12 chooses the interpreter; CUDA=1 adds TensorFlow's CUDA libraries.

PYTHON ?= python3
VENV := .venv
WIDTH := 120
TENSORFLOW := $(shell grep '^tensorflow==' requirements.txt)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help repro experiments test check soak lint verify cards site audit bench

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//; p' Makefile

repro: $(VENV)/pipeline $(if $(CUDA),$(VENV)/cuda)
	@python -m roads verify --lock
	dvc repro
	@echo
	@dvc metrics diff --all --targets metrics/test.json
	@echo "Pictures: metrics/contact_sheet.png, metrics/test/; curves: 'dvc plots show' (first 'source $(VENV)/bin/activate')"

# The last commit, and those that experiments started from (their refs are refs/exps/12/34.../NAME).
# Leaves out files, confidence intervals, counts, and columns that repeat another.
experiments: $(VENV)/pipeline
	@git for-each-ref 'refs/exps/??/*/*' | grep --quiet . || \
	  echo "There are no experiments yet. Run one: dvc exp run -S train.learning_rate=3e-4"
	@COLUMNS=$(WIDTH) dvc exp show --no-pager --only-changed --hide-workspace --rev HEAD \
	  $$(git for-each-ref --format='%(refname)' refs/exps | \
	    sed -nE 's|refs/exps/(..)/(.{38})/.*|--rev \1\2|p' | sort --unique) \
	  --drop '.*/|.*_95_|.*_crops|Created|Executor|best_epoch|valid_loss|iou|break_even|cldice'

# Files with slow tests come first (tests/conftest.py): keep pytest-xdist from ordering them.
PYTEST := python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: $(VENV)/development
	$(PYTEST)

check: lint
	$(PYTEST) -m "not slow and not soak"

soak: $(VENV)/development
	python -m pytest -m soak

verify: $(VENV)/pipeline
	python -m roads verify $(if $(QUARANTINE),--quarantine)

cards: $(VENV)/development
	@test -d "$(FOLDER)" || { echo "name the tiles: make cards FOLDER=/folder/of/tiles" >&2; exit 1; }
	rm -rf build/cards # results in it are reused, even those of other tiles
	python -m benchmarks.release --tiles "$(FOLDER)" --work build/cards

site: $(VENV)/site
	rm -rf build/pages && mkdir -p build/pages
	git ls-files '*.md' '*.png' '*.jpg' '*.ipynb' 'recipes/*' params.yaml CITATION.cff \
	  | xargs -I {} cp --parents {} build/pages
	NO_MKDOCS_2_WARNING=1 $(VENV)/site/bin/mkdocs build --strict
	@echo "Open build/site/index.html, or see it as a server sends it: python -m http.server -d build/site"

audit: $(VENV)/development $(VENV)/audit
	$(VENV)/audit/bin/pip-audit --strict --path "$$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

lint: $(VENV)/development
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/development .venv-bench/torch
	python -m benchmarks $(if $(PARTS),--parts $(PARTS)) $(if $(TILES),--tiles $(TILES)) \
	  $(if $(SCRATCH),--scratch $(SCRATCH))

.venv-bench/torch: requirements-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --retries 1 --requirement requirements-bench.txt
	@touch $@

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is required; choose one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --upgrade pip==26.3 setuptools==84.2.1
	@touch $@

$(VENV)/pipeline: $(VENV)/python requirements.txt pyproject.toml
	python -m pip install --quiet --requirement requirements.txt
	PYTHONWARNINGS=ignore python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/development: $(VENV)/pipeline requirements-dev.txt requirements-cluster.txt \
  requirements-onnx.txt
	python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

$(VENV)/site: $(VENV)/python
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet mkdocs==1.6.1 mkdocs-material==9.8.2

$(VENV)/audit:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet pip-audit==2.10.1

$(VENV)/cuda: $(VENV)/pipeline
	python -m pip install --quiet '$(subst tensorflow==,tensorflow[and-cuda]==,$(TENSORFLOW))'
	@touch $@
