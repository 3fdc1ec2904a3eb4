# Every target first makes .venv what the lock says; that takes no time when nothing changed.

BIN := .venv/bin
# Tests wait for devices and disks more than they compute.
PROCESSES := $(shell expr 2 \* $$(nproc))
CODE := $(wildcard src tests bench scripts/*.py)

.DEFAULT_GOAL := help
.PHONY: help venv demo test corpus fuzz torture soak check format bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

venv: ## .venv from the lock
	@scripts/bootstrap

demo: venv ## a controller, a worker and simulated devices (ONCE=1: one round, then leave)
	$(BIN)/roundsman demo $(if $(ONCE),--once)

test: venv ## all tests, with coverage (ARGS="tests/ledger -k claim" for some)
	@scripts/system-packages
	$(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 --cov --cov-report=term $(ARGS)

corpus: venv ## every recorded device, whole and in pieces, with pauses, misled and cut off (40 minutes)
	$(BIN)/python -m tests.worker.sessions.sweep $(ARGS)
	ROUNDSMAN_CORPUS_ALL=1 $(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 tests/worker/sessions/test_machines.py

torture: venv ## kills, full disks, power losses: the long form (half an hour; ROUNDSMAN_KILLS=30 for a piece of it)
	ROUNDSMAN_TORTURE=1 $(BIN)/python -m pytest -s tests/torture tests/archive/test_disks.py tests/archive/test_crashes.py \
		tests/ledger/test_laws.py tests/ledger/test_model.py tests/worker/runners/test_torture.py $(ARGS)

soak: venv ## an hour of ordinary work: does anything grow? (SECONDS=1200 ARGS=--postgresql)
	$(BIN)/python -m bench.soak --seconds $(or $(SECONDS),3600) $(ARGS)

fuzz: venv ## devices out of their minds, for ten minutes (SECONDS=60 SEED=7)
	$(BIN)/python -m tests.worker.sessions.fuzz --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

check: venv ## formatting, lint, types, import rules, forbidden words
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_tree.py

format: venv ## format, and repair what ruff can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: venv ## the measurements
	@scripts/bench-peers
	$(BIN)/python -m bench $(ARGS)

# Any machine and any mirror may refresh the lock: versions and hashes go in, hosts do not.
COMPILE := scripts/bootstrap uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header $(if $(UPGRADE),--upgrade)

lock: ## requirements/ from pyproject.toml (UPGRADE=1: to the newest versions)
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/development.txt
	$(COMPILE) --group peers -o requirements/peers.txt
	$(COMPILE) --group tools -o requirements/tools.txt

clean: ## remove .venv, caches and reports
	rm -rf .venv .peers .tools .bootstrap.lock .coverage .coverage.* htmlcov coverage.xml build dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
