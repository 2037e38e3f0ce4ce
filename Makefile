# Run `make help`. Every target sets itself up.

PYTHON  ?= python3
PROFILE ?= quick
DATA    ?= $(FEWLABELS_DATA)
VENV    := .venv
RUN     := $(VENV)/bin/python -m fewlabels
READY   := $(VENV)/.ready
BENCH   := .bench
PYTEST   = results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && FEWLABELS_RESULTS="$$results" OMP_NUM_THREADS=1 \
             $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
             --nbval-lax --nbval-current-env tests notebooks

export FEWLABELS_DATA := $(DATA)

MINUTES ?= 15

.PHONY: help env segment test test-long notebooks ledger bench

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@PYTHONPATH=lib $(PYTHON) -m fewlabels list | sed 's/^/  make /'
	@echo "  PROFILE=quick|lite|paper|... (now $(PROFILE); params/*/; quick: minutes, no download)"
	@echo "  DATA=folder that holds jsrt/, cifar10/, ... (now $(or $(FEWLABELS_DATA),unset))"

env: $(READY)  ## the environment in .venv, from requirements.lock

# One target an experiment and one a data set: `make help` lists them.
reproduce-%: $(READY)
	@$(RUN) notebooks params/$*/$(PROFILE).yaml

check-data-%: $(READY)
	@$(RUN) check-data $*

segment: $(READY)  ## your own images: DATA=folder with images/ and, for some, masks/ -> folder/segmented/ (MINUTES=15)
	@test -n "$(DATA)" || { echo "make segment: expected DATA=folder with images/ and masks/, found none" >&2; exit 2; }
	@$(RUN) segment "$(DATA)" --minutes $(MINUTES)

test: $(READY)  ## the tests, the notebooks included, on two cores
	@$(PYTEST) -m "not long"

test-long: $(READY)  ## what takes longer: real data, GPU kernels interpreted, processes killed, long trainings
	@$(PYTEST) -m long

notebooks: $(READY)  ## notebooks/*.ipynb from notebooks/*.py, executed
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
	FEWLABELS_RESULTS="$$results" OMP_NUM_THREADS=1 $(VENV)/bin/python -m fewlabels.engine.notebooks

ledger: $(READY)  ## judges the stored scores again; results/LEDGER.md, and the counts of verdicts in README.md
	@$(RUN) ledger

bench: $(BENCH)/.ready  ## our warps timed beside other packages, to results/bench/warps (wants a quiet machine)
	@PYTHONPATH=$(BENCH) $(VENV)/bin/python -m fewlabels.bench

$(READY): requirements.lock pyproject.toml
	@missing=; for tool in git gcc; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || missing="$$missing $(PYTHON)>=3.11-with-venv"; \
	$(PYTHON) -c 'import os, sysconfig as s; assert os.path.exists(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null \
	  || missing="$$missing Python.h(python3-dev)"; \
	test -z "$$missing" || { echo "make env: expected git, make, gcc, Python 3.11+ with headers and venv; missing:$$missing" >&2; exit 2; }
	@PYTHONPATH=lib $(PYTHON) -m fewlabels.installation $(VENV) requirements.lock
	@touch $@

$(BENCH)/.ready: requirements-bench.lock $(READY)
	@rm -rf $(BENCH)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(BENCH) -r $<
	@touch $@
