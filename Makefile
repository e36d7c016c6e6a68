# Tollgate's commands. `make run` and `make test` do all set-up on a machine with only Python 3.11 (with venv) and make.
.DEFAULT_GOAL := help
.PHONY: help run test check coverage lint types imports bench chaos faults kills soak lock audit graphiql clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-ready
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## Show these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

# The locks are complete, so nothing is resolved at installation (--no-deps): a release that came out since cannot break it.
$(RUNTIME): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tollgate needs Python 3.11 or newer; say PYTHON=/path/to/python3.11 make run"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned requirements into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/python tools/link_checkout.py
	@touch $@

$(READY): requirements-dev.lock $(RUNTIME)
	@echo "installing the pinned development requirements into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-dev.lock
	@touch $@

run: $(RUNTIME) ## Start the gateway with embedded PostgreSQL and Valkey and a seeded demo (ARGS="--port 9000")
	@exec $(BIN)/tollgate run $(ARGS)

test: $(READY) ## Run the tests (ARGS="-k limiter")
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint types imports test ## Lint, types, import contracts, tests

coverage: $(READY) ## The tests with coverage by branch (slower)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY) ## Measure: ledger, limiter, whole calls (ratios in one run; takes minutes)
	$(BIN)/python -m bench $(ARGS)

chaos: $(READY) ## Kill workers, PostgreSQL and Valkey under load, then audit every debit (ARGS="--calls 1000000 --kills 300")
	$(BIN)/python -m tests.chaos $(ARGS)

kills: $(READY) ## Kill a process at each step between Stripe and our commits in turn; charged and granted once (minutes)
	TOLLGATE_TEST_EVERY_KILL=1 $(BIN)/pytest -q tests/payments/test_kills.py -n 0

faults: $(READY) ## Faulty providers and clients, then every debit derived from the providers' log (ARGS="--calls 10000 --seed 7")
	$(BIN)/python -m tests.faults $(ARGS)

soak: $(READY) ## Random lives of workspaces over simulated months at the Stripe double (ARGS="--workspaces 200 --months 36")
	$(BIN)/python -m tests.payments.soak $(ARGS)

lock: $(READY) ## Resolve the requirements anew, with hashes and without index addresses
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --upgrade --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --quiet -o requirements-dev.lock

graphiql: ## Build the GraphiQL page again (needs Node) and compare its digests
	bash tools/graphiql/build.sh --check

audit: $(READY) ## Run the GraphQL over HTTP audit suite (needs Node; ARGS="http://…/graphql" for a running gateway)
	$(BIN)/python tools/audit/run.py $(ARGS)

clean: ## Remove the virtual environment and caches (keeps .tollgate, your data)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis htmlcov .coverage*
