# Every target makes the environment it needs in .venv, once, and again only when
# requirements/dev.txt, pyproject.toml or the Python version change.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
ARGS   ?=

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN     := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
# One stamp for each level, named after the Python version: another PYTHON makes .venv anew.
BARE    := $(VENV)/.bare-$(VERSION)
RUNTIME := $(VENV)/.runtime-$(VERSION)
VIEW    := $(VENV)/.view-$(VERSION)
DEV     := $(VENV)/.dev-$(VERSION)
PEERS   := $(VENV)/.bench-$(VERSION)

PIP    := PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip -qq
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/pip-compile --quiet --upgrade --strip-extras --no-header --annotation-style=line --no-emit-index-url \
  --no-emit-trusted-host --no-emit-find-links
CODE   := $(wildcard src benchmarks examples tools tests)
TYPED  := $(wildcard src benchmarks examples tools tests/typing)
DIRTY  := .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist site

##@ Start here

.PHONY: help
help: ## Say what can be made
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nOptions: PYTHON=python3.13 (which Python), JOBS=4 (test processes), ARGS="-k name" (for the tool that runs)\n'

.PHONY: demo
demo: $(RUNTIME) ## Index thousands of real files with durable jobs; interrupt it, run it again
	@$(BIN)/python examples/index_files.py $(ARGS)

.PHONY: dashboard
dashboard: $(VIEW) ## Look at the demo's jobs in a browser
	@$(BIN)/windlass dashboard --url sqlite:///index_files.db --insecure $(ARGS)

.PHONY: test
test: $(DEV) ## Run all tests but the soak
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "not soak" $(ARGS)

##@ While working

.PHONY: quick
quick: $(DEV) ## Run the fast tests, under a minute
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "not slow and not soak" -q $(ARGS)

.PHONY: format
format: $(DEV) ## Put the code into shape
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

.PHONY: docs
docs: $(DEV) ## Build the documentation into site/
	@$(BIN)/python tools/lifecycle_diagram.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: screenshots
screenshots: $(DEV) ## Put pictures of every page of the dashboard into docs/screenshots/
	@PYTHONPATH=. $(BIN)/python tools/screenshots.py $(ARGS)

##@ Before a change goes in

.PHONY: check
check: lint docs-check test ## Everything: style, types, layers, docs and tests

.PHONY: lint
lint: $(DEV) ## Check style, types and the direction of imports
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports

# The examples in the docs are executed by tests/test_docs.py.
.PHONY: docs-check
docs-check: $(DEV)
	@$(BIN)/python tools/lifecycle_diagram.py --check
	@mkdir -p build
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site >build/docs.log 2>&1 || { cat build/docs.log; exit 1; }

.PHONY: soak
soak: $(DEV) ## Run the tests at full size: hours, not minutes
	@$(PYTEST) -m "soak or not soak" --timeout 7200 $(ARGS)

.PHONY: bench
bench: $(PEERS) ## Compare with the peers and with the limits of the machine
	@$(VENV)/bench/bin/python -m benchmarks --awake $(ARGS)

##@ Housekeeping

.PHONY: lock
lock: $(BARE) ## Pin the development dependencies anew, on Python 3.11
	@$(PIP) install pip-tools
	@$(COMPILE) --output-file requirements/dev.txt pyproject.toml requirements/dev.in
	@sed -i '1i # Made by `make lock` on Python 3.11 from pyproject.toml and dev.in; installs on 3.11, 3.12 and 3.13.' requirements/dev.txt
	@$(COMPILE) --output-file requirements/bench.txt pyproject.toml requirements/bench.in
	@sed -i '1i # Made by `make lock` on Python 3.11 from pyproject.toml and bench.in.' requirements/bench.txt

.PHONY: clean
clean: ## Remove everything that was made, .venv included
	@rm -rf $(VENV) $(DIRTY)
	@find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(BARE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Windlass needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments: its ensurepip is missing. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with Python $(VERSION) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(RUNTIME): $(BARE) pyproject.toml
	@echo "Installing Windlass ..."
	@$(PIP) install -e .
	@touch $@

$(VIEW): $(RUNTIME) pyproject.toml
	@echo "Installing the dashboard ..."
	@$(PIP) install -e '.[dashboard]'
	@touch $@

$(DEV): $(BARE) pyproject.toml requirements/dev.txt
	@echo "Installing Windlass and the development tools ..."
	@$(PIP) install -r requirements/dev.txt -e .
	@touch $@ $(RUNTIME) $(VIEW)

$(PEERS): $(BARE) pyproject.toml requirements/bench.txt
	@echo "Installing Windlass and its peers ..."
	@$(PYTHON) -m venv --clear $(VENV)/bench
	@$(subst $(BIN),$(VENV)/bench/bin,$(PIP)) install -r requirements/bench.txt -e .
	@touch $@
