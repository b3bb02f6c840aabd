# Everything here runs from a fresh clone on a machine that has make and Python 3.11 or newer.
# `make` alone says what there is.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PROTOS := $(wildcard proto/lograft/v1/*.proto)
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto $(PROTOS)
PYTEST_ARGS ?=
# Set in many images. Tests and benches start hundreds of processes: each would compile all of lograft anew, 0.3 s.
unexport PYTHONDONTWRITEBYTECODE
# Two at a time, each with brokers of its own; more would be slow on a small machine, and slow looks like broken.
REAL_BROKERS := -n 2 --dist loadfile tests/integration
SEEDS ?= 1000
FROM ?= 0
MIX ?= mixed
ROUNDS ?= 20
BROKERS ?= 3

# Stamps: what is installed, and since which pyproject.toml. The package itself is linked, so its sources do not count.
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed
FUZZER := $(VENV)/.fuzzer-installed
PEERS := $(VENV)/.peers-installed

.DEFAULT_GOAL := help
.PHONY: help demo venv test test-long test-alerts screenshots sim world planted-bugs fuzz chaos bench bench-quick bench-peers lint format types buf stubs stubs-fresh metrics-doc reference clean

help: ## Say what there is
	@echo "lograft: a replicated, fault-tolerant log cluster."
	@echo
	@echo "To see it work:     make demo"
	@echo "To use it:          make venv, then $(BIN)/lograft --help"
	@echo "To change it:       make test lint types, and read ARCHITECTURE.md"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1#\2/p' $(MAKEFILE_LIST) | while IFS='#' read -r name what; do \
		printf '  make %-14s%s\n' "$$name" "$$what"; done

demo: $(RUNTIME) ## Three brokers, a group of consumers, one of them and the leader killed: is every byte still there?
	@$(BIN)/python -m lograft.client.cli.demo

venv: $(DEVELOPMENT) ## Install lograft and what its development needs into .venv

test: $(DEVELOPMENT) ## The quick suite: unit, scenario, simulation and most integration tests (PYTEST_ARGS="-k name")
	@$(BIN)/python -m tests.integration.console.install
	@$(BIN)/python -m tests.integration.kafka.kafkajs
	$(BIN)/pytest -n auto tests/unit tests/scenarios tests/simulation $(PYTEST_ARGS) || [ $$? -eq 5 ]
	$(BIN)/pytest $(REAL_BROKERS) tests/chaos/test_kit.py -m "not long" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-long: $(DEVELOPMENT) ## The integration tests that the quick suite leaves out: growth, moves, recovery, rolling restarts
	@$(BIN)/python -m tests.integration.console.install
	@$(BIN)/python -m tests.integration.kafka.kafkajs
	@$(BIN)/python -m tests.integration.kafka.go_clients
	$(BIN)/pytest $(REAL_BROKERS) -m "long and not alerting" $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-alerts: $(DEVELOPMENT) ## Each alert is seen to fire and to clear, by a real Prometheus beside a real cluster that is hurt (8 minutes)
	$(BIN)/pytest tests/integration -m alerting $(PYTEST_ARGS)

screenshots: $(DEVELOPMENT) ## Every screen of the console, tested in a browser, and its picture put into docs/images/console
	@$(BIN)/python -m tests.integration.console.install
	LOGRAFT_SCREENSHOTS=1 $(BIN)/pytest tests/integration/console $(PYTEST_ARGS)

sim: $(DEVELOPMENT) ## Seeds of the simulation on all cores: SEEDS=1000, FROM=0 (TWICE=1 each twice, KEEP_GOING=1, NEVER_REACHED=1)
	@$(BIN)/python -m tests.simulation --from $(FROM) --seeds $(SEEDS) \
		$(if $(TWICE),--twice) $(if $(KEEP_GOING),--keep-going) $(if $(NEVER_REACHED),--never-reached)

planted-bugs: $(DEVELOPMENT) ## Known-wrong behaviours, planted one by one: by which means, and how soon, is each found? (10 minutes)
	@$(BIN)/python -m tests.chaos.install
	$(BIN)/python -m tests.planted_bugs

fuzz: $(FUZZER) ## Fuzzing of every decoder, led by coverage, for MINUTES=10 (5 or more); what it finds is kept in tests/fuzz/crashes
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10)

chaos: $(DEVELOPMENT) ## Real brokers under real faults: MINUTES=3 of MIX=mixed (or power, failover: ROUNDS=20), from SEED on
	@$(BIN)/python -m tests.chaos.install
	$(BIN)/python -m tests.chaos $(MIX) --minutes $(or $(MINUTES),3) --rounds $(ROUNDS) --brokers $(BROKERS) $(if $(SEED),--seed $(SEED))

world: $(DEVELOPMENT) ## Whole brokers and clients simulated: SEEDS of them, from seed FROM on
	$(BIN)/python -m tests.simulation.world --from $(FROM) --seeds $(SEEDS)

bench: $(DEVELOPMENT) ## Throughput, latency, failover, memory, idle CPU, groups, growth, restarts, a lost disk, many partitions, 10 GB (35 minutes)
	$(BIN)/python -m tests.bench.spine all
	$(BIN)/python -m tests.bench.groups all
	$(BIN)/python -m tests.bench.growth
	$(BIN)/python -m tests.bench.rolling
	$(BIN)/python -m tests.bench.lost_disk
	$(BIN)/python -m tests.bench.many_partitions
	$(BIN)/python -m tests.bench.big_log

bench-quick: $(DEVELOPMENT) ## What a change did to speed: ratios to the bare pipe of the same run, and CPU a record (2 minutes)
	$(BIN)/python -m tests.bench.quick

# ROUNDS has another meaning above, so only one that was given counts.
bench-peers: $(PEERS) ## The same work on lograft, Kafka, NATS, RabbitMQ and the bare pipe: ROUNDS=5, QUICK=1, SYSTEMS="lograft kafka" (30 minutes)
	$(BIN)/python -m tests.bench.peers $(if $(filter-out file,$(origin ROUNDS)),--rounds $(ROUNDS)) \
		$(if $(QUICK),--quick) $(if $(SYSTEMS),--systems "$(SYSTEMS)")

lint: $(DEVELOPMENT) ## Style: ruff check, ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEVELOPMENT) ## Mend the style that can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEVELOPMENT) ## Types: mypy, strict where users and safety depend on it
	@# The folders at the root are one package only once installed; these links show it to mypy as such. Of proto/ only
	@# its own modules: the stubs below it have their place as lograft.v1.
	@rm -rf .mypy_root && mkdir -p .mypy_root/lograft/proto
	@for folder in node partitions client; do ln -s ../../$$folder .mypy_root/lograft/$$folder; done
	@for module in proto/*.py; do ln -s ../../../$$module .mypy_root/lograft/proto/; done
	@ln -s ../../proto/lograft/v1 .mypy_root/lograft/v1
	@for module in client/front/*.py; do ln -s ../../$$module .mypy_root/lograft/; done
	$(BIN)/mypy -p lograft

buf: $(DEVELOPMENT) ## Style of the gRPC contract: buf lint
	$(BIN)/buf lint

stubs: $(DEVELOPMENT) ## Generate the gRPC stubs from proto/lograft/v1/*.proto
	$(PROTOC) --python_out=proto --grpc_python_out=proto --pyi_out=proto

stubs-fresh: $(DEVELOPMENT) ## Are the committed stubs those of the .proto files?
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
		&& $(PROTOC) --python_out="$$fresh" --grpc_python_out="$$fresh" --pyi_out="$$fresh" \
		&& { diff -r -x __pycache__ -x __init__.py -x '*.proto' proto/lograft/v1 "$$fresh/lograft/v1" \
			|| { echo "The stubs are stale: run make stubs and commit what it changes." >&2; exit 1; }; } \
		&& echo "The stubs are fresh."

metrics-doc: $(DEVELOPMENT) ## Write docs/metrics.md from the code
	$(BIN)/python -m lograft.node.metrics > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

reference: $(DEVELOPMENT) ## Make docs/reference/ from the code (the quick suite says if it is stale)
	@$(BIN)/python -m tests.reference

clean: ## Remove caches and build leftovers; .venv and your data stay
	rm -rf .mypy_root .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz-corpus build dist
	find client node partitions proto tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); lograft needs 3.11 or newer. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: sudo apt install python3-venv. Then run make again." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): pyproject.toml | $(BIN)/python
	@echo "Installing lograft and what it needs into $(VENV) (a minute, once)"
	@$(PIP) install --quiet --editable .
	@touch $@

$(DEVELOPMENT): pyproject.toml | $(BIN)/python
	@echo "Installing lograft and what its development needs into $(VENV) (a minute or two, once)"
	@$(PIP) install --quiet --editable '.[dev,kafka-clients]'
	@touch $(RUNTIME) $@

$(FUZZER): $(DEVELOPMENT)
	@echo "Installing the fuzzer into $(VENV)"
	@$(PIP) install --quiet --editable '.[fuzz]'
	@touch $@

$(PEERS): $(DEVELOPMENT)
	@echo "Installing the Python clients of the others into $(VENV)"
	@$(PIP) install --quiet --editable '.[peers]'
	@touch $@
