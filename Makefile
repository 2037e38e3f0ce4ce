# Run `make help`. Every target sets itself up.

PYTHON  ?= python3
PROFILE ?= quick
DATA    ?= $(FEWLABELS_DATA)
VENV    := .venv
RUN     := $(VENV)/bin/python -m fewlabels
READY   := $(VENV)/.ready
BENCH   := .bench

export FEWLABELS_DATA := $(DATA)

.PHONY: help env reproduce-jsrt reproduce-cifar10 reproduce-acdc reproduce-isic reproduce-oar reproduce-mnist \
  reproduce-brats test notebooks ledger check-data-jsrt check-data-cifar10 check-data-acdc check-data-isic \
  check-data-oar check-data-mnist check-data-brats bench

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PROFILE=quick|lite|paper|... (now $(PROFILE); params/*/)   DATA=folder that holds jsrt/, cifar10/, ... (now $(or $(FEWLABELS_DATA),unset))"

env: $(READY)  ## the environment in .venv, from requirements.lock

reproduce-jsrt: $(READY)  ## Bortsova et al. 2019: Tables 1 and 2 (quick: on phantoms, minutes)
	@$(RUN) notebooks params/jsrt/$(PROFILE).yaml

reproduce-cifar10: $(READY)  ## Malfliet & Bakker 2021: Table 1, as published and corrected (quick: on digits, minutes)
	@$(RUN) notebooks params/cifar10/$(PROFILE).yaml

reproduce-acdc: $(READY)  ## Chaitanya et al. 2019: Table 1 (quick: on phantoms, minutes)
	@$(RUN) notebooks params/acdc/$(PROFILE).yaml

reproduce-isic: $(READY)  ## Gao et al. 2021: Figure 3, Table 1 (quick: on phantoms, minutes)
	@$(RUN) notebooks params/isic/$(PROFILE).yaml

reproduce-oar: $(READY)  ## Gao et al. 2021: Table 2 (quick: on phantoms, minutes)
	@$(RUN) notebooks params/oar/$(PROFILE).yaml

reproduce-mnist: $(READY)  ## Vorontsov et al. 2019: Table 1 on cluttered digits (quick: minutes)
	@$(RUN) notebooks params/mnist/$(PROFILE).yaml

reproduce-brats: $(READY)  ## Vorontsov et al. 2019: Table 1 on brains (quick: on phantoms, minutes)
	@$(RUN) notebooks params/brats/$(PROFILE).yaml

test: $(READY)  ## all tests, the notebooks included, on two cores
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
	FEWLABELS_RESULTS="$$results" OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile \
	  --nbval-lax --nbval-current-env tests notebooks

notebooks: $(READY)  ## notebooks/*.ipynb from notebooks/*.py, executed
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
	FEWLABELS_RESULTS="$$results" $(VENV)/bin/python -m fewlabels.notebooks

ledger: $(READY)  ## the table of verdicts in README.md, from results/
	@$(RUN) ledger

check-data-jsrt: $(READY)  ## is DATA/jsrt complete?
	@$(RUN) check-data jsrt

check-data-cifar10: $(READY)  ## is DATA/cifar10 complete?
	@$(RUN) check-data cifar10

check-data-acdc: $(READY)  ## is DATA/acdc complete?
	@$(RUN) check-data acdc

check-data-isic: $(READY)  ## is DATA/isic2018 or DATA/ham10000 complete?
	@$(RUN) check-data isic

check-data-oar: $(READY)  ## is DATA/pddca (or its stand-in, DATA/openkbp) complete?
	@$(RUN) check-data oar

check-data-mnist: $(READY)  ## is DATA/mnist complete?
	@$(RUN) check-data mnist

check-data-brats: $(READY)  ## is DATA/brats complete?
	@$(RUN) check-data brats

bench: $(BENCH)/.ready  ## our warps timed beside other packages, to results/bench/warps (wants a quiet machine)
	@PYTHONPATH=$(BENCH) $(VENV)/bin/python -m fewlabels.bench

$(READY): requirements.lock pyproject.toml
	@missing=; for tool in git gcc; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || missing="$$missing $(PYTHON)>=3.11-with-venv"; \
	$(PYTHON) -c 'import os, sysconfig as s; assert os.path.exists(os.path.join(s.get_path("include"), "Python.h"))' 2>/dev/null \
	  || missing="$$missing Python.h(python3-dev)"; \
	test -z "$$missing" || { echo "make env: expected git, make, gcc, Python 3.11+ with headers and venv; missing:$$missing" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH)/.ready: requirements-bench.lock $(READY)
	@rm -rf $(BENCH)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(BENCH) -r $<
	@touch $@
