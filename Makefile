# What a person or CI does with Ergonaut. `make demo` and `make test` need only Python 3.11, make, git and PyPI.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
ERGONAUT_HOME ?= $(CURDIR)/.ergonaut
# Tests and demos start hundreds of processes; without kept bytecode each compiles all that it imports, for two seconds and more.
unexport PYTHONDONTWRITEBYTECODE
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),python3)
RUN := $(UV) run --frozen

.PHONY: help setup fmt check lint types tidy test test-clients test-ml fuzz integration test-integration chaos chaos-vectors demo demo-retrain bench up down proto docs

help: ## Tell what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

setup: $(filter .tools/bin/uv,$(UV)) ## Make the environment from uv.lock
	@$(UV) sync --frozen --quiet

fmt: setup ## Format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

check: lint types tidy ## Everything a machine can see without running the system

lint: setup
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) lint-imports
	$(RUN) python tools/protos.py check

types: setup
	$(RUN) mypy libs/sdk/src libs/common/src $(wildcard services/*/src)

tidy: setup
	$(RUN) pytest tools

test: setup ## All tests, with the real servers, on free ports
	$(RUN) python tools/tests.py --dist loadfile --no-loadscope-reorder tests libs services --ignore tests/ml

integration: setup ## Only the tests that start the real servers
	$(RUN) pytest tests/integration

test-integration: integration ## The same as integration

chaos: setup ## Kill agent, bus and ledger a hundred times while samples stream; then every process in turn during a job
	ERGONAUT_KILLS=100 $(RUN) pytest tests/integration -m chaos

chaos-vectors: setup ## Kill nodes of the vector index and NATS in two hundred seeded rounds; ARGS="seed=7 rounds=20" plays others
	$(RUN) python -m services.vectors.tests.chaos.run $(ARGS)

fuzz: setup ## A million malformed bodies at the gateway's doors; FUZZ_BODIES and FUZZ_SEED choose others
	$(RUN) --group fuzz python -m services.gateway.tests.fuzz.run

test-ml: setup ## Tests with CPU torch, in an environment of their own
	$(RUN) python tools/ml.py $(ML_OPTIONS)

test-clients: setup ## Tests with KServe's clients, in an environment of their own
	$(RUN) python tools/clients.py

demo: setup ## One command runs a real job through the whole system
	@ERGONAUT_HOME=$(ERGONAUT_HOME) $(RUN) python examples/digits/demo.py

demo-retrain: setup ## A model drifts under load, is trained again, and the better version takes over
	@ERGONAUT_HOME=$(ERGONAUT_HOME) $(RUN) python examples/digits/retrain.py

up: setup ## Start the system on this machine
	@ERGONAUT_HOME=$(ERGONAUT_HOME) $(RUN) ergonaut up

down: setup ## Stop it; nothing is lost
	@ERGONAUT_HOME=$(ERGONAUT_HOME) $(RUN) ergonaut down

bench: setup ## Run every benchmark; `make bench-NAME` runs one
	@for folder in bench/*/; do $(MAKE) --no-print-directory bench-$$(basename $$folder); done

bench-%: setup
	$(RUN) python bench/$*/run.py $(ARGS)

proto: setup ## Generate the protobuf code again after a .proto changed
	$(UV) sync --frozen --quiet --reinstall-package ergonaut

docs: setup ## Write the files in docs/ that are made from code
	$(RUN) python tools/docs.py
	$(RUN) python tools/dashboards.py
