# Everything a developer runs. Needs python3 (>= 3.11) and make; `make setup` does the rest.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench chaos fuzz docs lock clean

PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check
# Tested wheels only, by hash, through pip: your own index settings hold.
INSTALL := install --quiet --require-hashes --no-deps --no-compile
UV := uv==0.13.9

# Nobody's money is spent by accident: demo, tests and benchmarks never see a provider key.
KEYLESS := env -u OPENAI_API_KEY -u ANTHROPIC_API_KEY -u GEMINI_API_KEY -u GOOGLE_API_KEY -u OPENAI_COMPATIBLE_API_KEY -u OPENAI_API_KEY_FILE -u ANTHROPIC_API_KEY_FILE -u GEMINI_API_KEY_FILE -u GOOGLE_API_KEY_FILE -u OPENAI_COMPATIBLE_API_KEY_FILE -u COLLEGIUM_MODEL

PYTEST_WORKERS ?= 2
# The tests start hundreds of processes: none of them should have to compile all that it imports.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(KEYLESS) $(BIN)/python -m pytest
DEMO_GOAL ?= How long are nightly backups of ledger-db kept?
DEMO_MODEL := local:smollm2-135m-instruct
BENCHES ?= $(filter-out benchmarks/_%,$(sort $(wildcard benchmarks/*.py)))
DOCS_TESTS := tests/architecture/test_docs.py $(wildcard tests/docs)

help: ## Show the targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: .venv/.installed ## Create .venv with collegium and the development tools.

demo: setup ## Answer a question over examples/handbook/docs: no key, no server, no GPU.
	$(KEYLESS) $(BIN)/collegium run "$(DEMO_GOAL)" --files examples/handbook/docs --model $(DEMO_MODEL)

test: setup ## Run every test.
	$(PYTEST) -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

check: setup ## Format, lint, types, import contracts, lock.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) -q tests/architecture/test_lock.py

bench: .venv-bench/.installed ## Run the benchmarks beside their peers (own .venv-bench).
	@test -n "$(BENCHES)" || { echo "benchmarks/ holds no benchmark"; exit 1; }
	@set -e; for bench in $(BENCHES); do echo "== $$bench"; $(KEYLESS) .venv-bench/bin/python $$bench $(ARGS); done

chaos: setup ## Kill and starve real processes; LONG=1 for at least 1,000 kills.
ifdef LONG
	$(KEYLESS) $(BIN)/python -m tests.chaos --long --lanes 2 $(ARGS)
else
	$(PYTEST) tests/e2e/test_killed.py tests/unit/stores/test_processes.py tests/unit/stores/test_failures.py
	$(KEYLESS) $(BIN)/python -m tests.chaos --quick --lanes 2 $(ARGS)
endif

fuzz: setup ## Fuzz the API of a real server by its own document; ARGS="--examples 100" for longer.
	$(KEYLESS) $(BIN)/python -m tests.api_fuzz $(ARGS)

docs: setup ## Check links and run the snippets of the docs.
	$(PYTEST) -q $(DOCS_TESTS)

lock: $(BIN)/python ## Resolve requirements/*.txt anew from pyproject.toml.
	$(BIN)/python $(PIP) install --quiet "$(UV)"
	$(call compile,lock,--extra local --extra client --extra server --extra protocols --extra encryption --extra sqlcipher --extra postgres --extra redis --extra openai --extra anthropic --extra google --group dev)
	$(call compile,all,--extra all --constraint requirements/lock.txt)
	$(call compile,bench,--extra local --extra server --extra postgres --extra redis --extra openai --group bench --constraint requirements/lock.txt)

clean: ## Remove what make made, environments included.
	rm -rf .venv .venv-bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define compile
	$(BIN)/uv pip compile pyproject.toml $(2) --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --upgrade --output-file requirements/$(1).new
	{ echo "# Made by \`make lock\` from pyproject.toml; do not edit."; cat requirements/$(1).new; } > requirements/$(1).txt
	rm requirements/$(1).new
endef

define venv
	@command -v $(PYTHON) >/dev/null || { echo "make setup: there is no $(PYTHON) on the PATH; install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make setup: $$($(PYTHON) --version) is too old, collegium needs Python 3.11 or newer; name another: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make setup: $(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

$(BIN)/python:
	$(call venv,.venv)

.venv/.locked: requirements/lock.txt
	$(call venv,.venv)
	@echo "make setup: installing the packages of requirements/lock.txt into .venv (about half a minute)"
	$(BIN)/python $(PIP) $(INSTALL) -r requirements/lock.txt
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	$(BIN)/python $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv-bench/.installed: requirements/bench.txt pyproject.toml
	$(call venv,.venv-bench)
	.venv-bench/bin/python $(PIP) $(INSTALL) -r requirements/bench.txt
	.venv-bench/bin/python $(PIP) install --quiet --no-deps --editable .
	@touch $@
