# Everything there is to do with a checkout. Two commands are enough: make run, make test.
# All of them can be repeated; each installs what it needs first, as root or as a normal user.

PYTHON ?= python3
NAME ?= localhost
PORT ?= 8008
DATA ?= data
PROCESSES ?= 1
# Twice as many as there are processors: many tests wait for others.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(16, 2 * (os.cpu_count() or 1)))")
# Tests that compare waiting times, or stop processes: one after the other, with nothing beside them.
TIMED := appservices database_away failover first_syncs hosts kill9_hosts kill9_processes load_* readers
ALONE := $(wildcard $(TIMED:%=tests/reliability/test_%.py)) tests/integration/runtime/test_hung_worker.py

# Where everything is installed; elsewhere, if this folder cannot be written to.
VENV ?= .venv

BIN := $(VENV)/bin
CONFIG := $(DATA)/config.yaml

ifneq ($(words $(VENV)),1)
$(error VENV may not have spaces in it: make takes it for several files. This folder and DATA may)
endif

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-docs run test test-load test-browser lint format bench docs lock clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: install ## install, start a server on http://localhost:8008 with its data under ./data
	@test -f "$(CONFIG)" || $(BIN)/atrium init --server-name "$(NAME)" --config "$(CONFIG)" --data . --port $(PORT)
	@exec $(BIN)/atrium serve --guide --config "$(CONFIG)" --processes $(PROCESSES)

test: install-dev ## install what the tests need, run them all, print a summary
ifdef TESTS
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --slow $(TESTS)
else
	@status=0; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --slow $(addprefix --ignore=,$(ALONE)) || status=1; \
	$(BIN)/python -m pytest --slow $(ALONE) || status=1; \
	exit $$status
endif

test-load: install-dev ## crowds in their full size, on a machine that does nothing else
	@$(BIN)/python -m pytest -m load tests

test-browser: install-dev ## drive Element in Chromium (needs node, npm, chromium)
	@$(BIN)/python -m pytest -m browser tests/browser

lint: install-dev ## style, types, layers
	@status=0; for check in "ruff check" "ruff format --check" mypy "lint-imports --no-logo"; do \
	    echo "==> $$check"; \
	    case $$check in ruff*) folder=.;; *) folder=;; esac; \
	    $(BIN)/$$check $$folder || status=1; \
	done; exit $$status

format: install-dev ## let ruff arrange the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev ## measure, beside Synapse; see docs/performance.md
	$(BIN)/python -m benchmarks $(BENCH)

docs: install-docs ## build the documentation into ./site
	$(BIN)/zensical build

lock: ## write requirements*.txt for pyproject.toml; UPGRADE=--upgrade takes the newest versions
	@UPGRADE=$(UPGRADE) sh scripts/lock.sh $(PYTHON)

clean: ## remove what was installed and made here, but never ./data
	rm -rf $(VENV) site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# ------------------------------------------------------------------------------------------------------- installing
# A stamp per kind of installation: what is up to date costs no time.

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev
install-docs: $(VENV)/.installed-docs

$(VENV)/bin/pip:
	@sh scripts/venv.sh $(PYTHON) $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/pip
	@sh scripts/install.sh $(VENV) "the server" requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@sh scripts/install.sh $(VENV) "what the tests need" requirements-dev.txt
	@touch $@

$(VENV)/.installed-docs: requirements-docs.txt $(VENV)/.installed
	@sh scripts/install.sh $(VENV) "what the documentation needs" requirements-docs.txt
	@touch $@
