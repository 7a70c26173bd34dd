# CXR-LLaVA Workbench. `make demo` is the start; everything else is for those who stay.
#
# PYTHON   the interpreter that creates the environment    make demo PYTHON=/opt/python3.12/bin/python3
# VENV     where the environment lives (default .venv)
# PIP_ARGS further options for pip, e.g. --no-index --find-links wheels/
# MODEL    what the lessons of `make site` run with (default mini)

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; echo $$p)
VENV ?= .venv
PIP_ARGS ?=
WORKERS ?= 4
MODEL ?= mini

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install -q -q --compile $(PIP_ARGS) --constraint constraints.txt
SOURCES := pyproject.toml constraints.txt

# Bytecode is what makes the second start fast; a shell may have switched it off.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help demo app lab site test wheel lint style bench bench-full bench-gpu audit hooks clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## */\t/' | expand -t 10

demo: $(VENV)/.installed-demo ## a report for a phantom and for a real radiograph, in out/demo
	@$(RUN) -m workbench demo

app: $(VENV)/.installed-demo ## the explorer in the browser, with a phantom
	@$(RUN) -m workbench app

# JupyterLab would ask the network for news and for newer versions of itself.
QUIET := --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
# The environment's own kernel, also where the user has installed another "python3".
lab: export JUPYTER_PREFER_ENV_PATH := 1
# ... and nothing that asks whether it may send news.
lab: export JUPYTER_CONFIG_PATH := $(CURDIR)/docs/lab$(if $(JUPYTER_CONFIG_PATH),:$(JUPYTER_CONFIG_PATH))
lab: $(VENV)/.installed-demo ## open the first lesson in JupyterLab, as your own copy in out/lab
	@$(RUN) -m docs.lab
	$(RUN) -m jupyterlab out/lab/notebooks/00_start_here.ipynb $(QUIET)

site: $(VENV)/.installed-docs ## the documentation and the executed lessons as web pages, in out/site
	@$(RUN) -m docs.site --model '$(MODEL)'

lint: style ## check the code, and that types agree (a minute)
	$(RUN) -m pyright --pythonpath $(RUN)

style: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: export OMP_NUM_THREADS := 1
test: $(VENV)/.installed-test style ## run every test and every notebook
	$(RUN) -m pytest -q -n $(WORKERS) --dist worksteal

# In an environment of its own, and outside the repository: what a user of the wheel has.
wheel: ## build the wheel, install it elsewhere, run there what it promises (10 minutes)
	rm -rf out/wheel
	$(PYTHON) -m pip wheel -q --no-deps -w out/wheel .
	$(PYTHON) -m venv out/wheel/env
	out/wheel/env/bin/python -m pip install -q $(PIP_ARGS) --constraint constraints.txt \
	  "$$(ls out/wheel/*.whl)[demo,app]"
	cd "$$(mktemp -d)" && $(CURDIR)/out/wheel/env/bin/python -P $(CURDIR)/tests/from_wheel.py

# On all cores, by the clock on the wall: leave the machine alone meanwhile.
bench: $(VENV)/.installed-demo ## speed against peers and limits, 5 minutes; JSON and a page in out/bench
	$(RUN) benchmarks/bench.py

bench-full: $(VENV)/.installed-demo ## the same with everything else that is measured, 15 minutes
	$(RUN) benchmarks/bench.py --full

bench-gpu: $(VENV)/.installed-demo ## the full-size model on a GPU, 10 minutes; JSON in out/bench-gpu
	$(RUN) benchmarks/gpu.py --out out/bench-gpu

# In an environment of its own, so that what audits is not audited with it. The licences and the
# bill of materials need no network; known faults of packages are asked for where there is one.
audit: $(VENV)/.installed-test ## licences and bill of materials in out/sbom.json, known faults of packages
	$(RUN) -m docs.licences --check --sbom out/sbom.json
	@{ $(PYTHON) -m venv out/audit && \
	  out/audit/bin/python -m pip install -q -q $(PIP_ARGS) pip-audit && \
	  out/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip; } || \
	  echo "Known faults could not be asked for, or there are some: see above."

hooks: $(VENV)/.installed-test ## check every commit before it is made
	@$(PIP) --editable '.[dev]'
	$(RUN) -m pre_commit install

clean: ## remove what commands wrote; the environment and your lessons in out/lab stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@if [ -d out ]; then find out -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +; fi

$(VENV)/.installed-demo: $(SOURCES) | $(RUN)
	@echo "Installing into $(VENV) (a few minutes, once) ..."
	@$(PIP) --editable '.[demo,app]'
	@$(RUN) -m compileall -q workbench recipes
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-demo
	@$(PIP) --editable '.[demo,app,docs]'
	@touch $@

$(VENV)/.installed-test: $(SOURCES) | $(RUN)
	@echo "Installing into $(VENV), tests included (a few minutes, once) ..."
	@$(PIP) --editable '.[demo,app,docs,test]'
	@$(RUN) -m compileall -q workbench recipes
	@touch $(VENV)/.installed-demo $(VENV)/.installed-docs $@

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
