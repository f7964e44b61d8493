# make help lists the targets. Everything runs from a fresh clone; `setup` is done when it is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp-$(shell cat requirements/dev.txt pyproject.toml 2>/dev/null | sha256sum | cut -c1-16)
NODES  ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup check format test test-fast demo cluster cluster-down bench-ingest bench-react bench-idle bench-takeover bench-runs bench-forecast bench-metrics bench-policies bench-replay chaos-crash simulate chaos chaos-experiments chaos-staging schema lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv from the locked dependencies

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "setup: making $(VENV) from the locked dependencies (about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "healer needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.stamp-*; touch $@
	@echo "setup: done"

check: setup ## format, lint, types and import contracts (seconds)
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: setup ## format and sort imports
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

test: setup ## every ring of tests, a real cluster included
	@$(BIN)/python -m tests.run

test-fast: setup ## the rings that need no cluster
	@$(BIN)/python -m tests.run --fast

demo: setup ## break a service on a real cluster and watch it heal (KEEP=1 leaves it running)
	@$(BIN)/python -m tests.demo $(if $(KEEP),--keep)

cluster: setup ## start the test cluster and leave it running
	@$(BIN)/python -m tests.bed up --nodes=$(NODES)

cluster-down: setup ## stop it
	@$(BIN)/python -m tests.bed down

simulate: setup ## N histories of the engine under virtual time and seeded trouble (SEED=n plays one and shows it)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--histories $(or $(N),100000) --processes 2)

chaos-crash: setup ## kill healer N times (STORE=sqlite|postgres, RESUME=folder): is anything lost or done twice?
	@$(BIN)/python -m tests.crash --kills $(or $(N),10000) --store $(or $(STORE),sqlite) $(if $(RESUME),--resume $(RESUME))

bench-ingest: setup ## webhook to disk: latency and throughput against their bars
	@$(BIN)/python -m bench.ingest

bench-react: setup ## webhook to patch at the API server: latency against its bar
	@$(BIN)/python -m bench.react

bench-storm: setup ## 10,000 alerts at once: accepted, matched, paced, against their bars
	@$(BIN)/python -m bench.storm

bench-idle: setup ## processor time and memory while nothing is wrong, against their bars
	@$(BIN)/python -m bench.idle

chaos: setup ## everything that takes long: experiments, simulator, crashes, flood, soak (MINUTES=budget)
	@$(BIN)/python -m tests.longhaul $(if $(MINUTES),--minutes $(MINUTES))

chaos-experiments: setup ## the chaos experiments with their control runs on the test bed (minutes)
	@$(BIN)/python -m tests.chaos $(if $(SECONDS_BUDGET),--seconds $(SECONDS_BUDGET)) $(if $(ONLY),--only $(ONLY))

chaos-staging: setup ## the same against CONTEXT=..., as SITE=chaos-site.yaml describes it (docs/chaos.md)
	@$(BIN)/python -m chaos run --context "$(CONTEXT)" $(if $(SITE),--site $(SITE)) $(if $(ONLY),--only $(ONLY))

bench-forecast: setup ## accuracy, calibration and cost of forecasts (TRACES=folder, else generated)
	@$(BIN)/python -m bench.forecast $(if $(TRACES),--traces=$(TRACES))

bench-replay: setup ## violations and pod-hours of each scaling policy on past load (TRACES=folder, else generated)
	@nice -n 5 $(BIN)/python -m bench.replay $(if $(TRACES),--traces=$(TRACES))

bench-metrics: setup ## the metrics API, direct and through a real API server, against its bars
	@$(BIN)/python -m bench.metrics

bench-policies: setup ## a thousand scaling policies in one healer, against their bars (a quarter of an hour)
	@$(BIN)/python -m bench.policies

bench-runs: setup ## three-step runs on both journals, beside DBOS Transact: throughput against its bars
	@$(BIN)/python -m bench.runs

bench-takeover: setup ## how long work rests after a SIGKILL, on either engine, against its bars
	@$(BIN)/python -m bench.takeover

schema: setup ## write playbooks/playbook.schema.json again
	@$(BIN)/python -m healer.playbook_yaml.schema

lock: setup ## lock the dependencies again
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header --extra postgres pyproject.toml -o requirements/runtime.txt
	@$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header --all-extras pyproject.toml -o requirements/dev.txt

clean: ## remove what builds and tests leave in the tree
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage* dist reports
