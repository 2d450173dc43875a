# Every target that runs something prepares what it needs first; a second call finds it there.
.DEFAULT_GOAL := help
.PHONY: help demo run up test test-containers unit lint format acceptance bench bench-peers bench-long bench-plots audit lock schemas clean venv venv-dev servers test-servers peers bench-tools

PYTHON ?=
export PYTHON
# Where it is set, each of the hundreds of processes that the tests start would compile all of Amends anew.
unexport PYTHONDONTWRITEBYTECODE
bin := .venv/bin
# Extra words for the program behind a target: make test ARGS="tests/unit -k machine"
ARGS ?=
# What benchmarks run in turns with ours: hand-written loops of our own, or another program that prints the same.
FLOOR ?= $(bin)/python -m benchmarks.bare {count} {batch} {queue}
ENGINE_FLOOR ?= $(bin)/python -m benchmarks.bare.loop {count} {batch} {queue}
# A benchmark, on a broker and a database of its own.
measure = $(bin)/python -m deploy.servers -- $(bin)/python -m benchmarks
sources := contracts messaging orchestrator services deploy docs/examples tests benchmarks

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: venv ## Orders through all three services in one process, no server needed, in a minute
	@$(bin)/python -m deploy demo $(ARGS)

run: venv ## The embedded mode: three services in one process, until Ctrl-C
	@$(bin)/python -m deploy run $(ARGS)

up: venv ## Three processes on RabbitMQ and PostgreSQL (AMQP_URL, DATABASE_URL, or servers of their own)
	@TEST_AMQP_URL="$$AMQP_URL$$AMQP_URL_FILE" TEST_DATABASE_URL="$$DATABASE_URL$$DATABASE_URL_FILE" sh deploy/setup.sh servers
	@$(bin)/python -m deploy.up $(ARGS)

test: venv-dev test-servers ## Every test, on a broker and a database of their own (ARGS="tests/unit -k machine")
	@$(bin)/python -m deploy.servers --no-fsync -- $(bin)/python -m pytest $(or $(ARGS),-n auto)

test-containers: venv-dev ## Images built, compose.yaml run, services stopped, killed and upgraded under load: minutes
	@sh deploy/setup.sh containers
	@$(bin)/python -m deploy.containers $(ARGS)

unit: venv-dev ## The pure tests: seconds, no server
	@$(bin)/python -m pytest tests/unit $(ARGS)

lint: venv-dev ## Style, types and the direction of imports
	$(bin)/ruff check $(sources)
	$(bin)/ruff format --check $(sources)
	$(bin)/mypy
	$(bin)/lint-imports --no-cache

format: venv-dev ## Rewrite the sources the way lint wants them
	$(bin)/ruff check --fix $(sources)
	$(bin)/ruff format $(sources)

acceptance: venv-dev servers ## A file of orders under kill -9, then an audit: make acceptance ARGS="orders.csv --embedded"
	@$(bin)/python -m deploy.acceptance $(ARGS)

bench: venv-dev servers bench-tools ## Throughput, latency, CPU, memory, and how all goals stand (FLOOR="another program")
	@$(measure) --floor "$(FLOOR)" $(ARGS)

bench-peers: venv-dev servers bench-tools peers ## The same saga on DBOS Transact and on Restate, in turns with ours
	@$(measure).peers --floor "$(FLOOR)" $(ARGS)

bench-long: venv-dev servers bench-tools ## What takes half an hour: starts, transitions, memory over many sagas, a million of them
	@$(measure).starting
	@$(measure).engine --queue quorum --floor "$(ENGINE_FLOOR)"
	@$(bin)/python -m benchmarks.embedding
	@$(measure).draining
	@$(measure).endurance
	@$(measure).at_scale
	@$(bin)/python -m benchmarks.goals

bench-plots: venv-dev servers bench-tools ## Pictures and tables of docs/performance.md, after the three above
	@$(measure).sweeping --floor "$(FLOOR)"
	@$(bin)/python -m benchmarks.plotting
	@$(bin)/python -m benchmarks.documenting

audit: venv ## What is known of the locked packages' vulnerabilities, and bills of materials in build/
	@sh deploy/setup.sh audit
	@$(bin)/python -m deploy.vulnerabilities $(ARGS)

lock: venv-dev ## Resolve pyproject.toml afresh into the lock files (needs uv)
	@sh deploy/lock.sh $(ARGS)

schemas: venv-dev ## Freeze the JSON Schema of message versions that are new
	@$(bin)/python -m contracts.schemas $(ARGS)

clean: ## Remove the environment and everything the tools left
	rm -rf .venv .venv-audit .venv-peers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find $(sources) -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@sh deploy/setup.sh venv runtime

venv-dev:
	@sh deploy/setup.sh venv dev

servers:
	@sh deploy/setup.sh servers

test-servers:
	@sh deploy/setup.sh servers prometheus

peers:
	@sh deploy/setup.sh peers

bench-tools: venv-dev
	@sh deploy/setup.sh bench
