# Every target is meant for people; what a target needs, it makes first. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test venv lint unit models format cluster-up cluster-down cluster-status kubeconfig env images crds lock clean

NODES ?= 1
FAKE_GPUS ?= 0
PY := .venv/bin/python

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' Makefile

demo: ## Install Fettle on a local cluster, train two adapters, show the answers before and after
	@python3 scripts/demo.py

test: ## Everything: lint, unit, integration, chart and end-to-end tests
	@python3 scripts/check_all.py

venv: ## Make .venv with every development tool
	@scripts/venv.sh

lint: venv ## Format, lint, types, import contracts, freshness of generated files
	$(PY) -m ruff format --check --quiet .
	$(PY) -m ruff check --quiet .
	$(PY) -m mypy
	PYTHONPATH=operator/src:trainer/src:server/src:router/src:cli/src .venv/bin/lint-imports

unit: venv ## The fast tests, without a cluster
	@$(PY) -m pytest -q -n 2 -m "not apiserver and not cluster" --ignore tests/training --ignore tests/serving

models: ## The tests of trainer and model server, with the whole model stack
	@"$$(scripts/model_venv.sh)" -m pytest -q -n 2 --dist worksteal tests/training tests/serving

format: venv ## Rewrite the code in the house format
	$(PY) -m ruff format --quiet .
	$(PY) -m ruff check --quiet --fix .

cluster-up: ## Start the local cluster (NODES=2, FAKE_GPUS=4)
	@python3 -m clusters up --nodes $(NODES) --fake-gpus $(FAKE_GPUS)

cluster-down: ## Stop the local cluster and leave nothing behind
	@python3 -m clusters down

cluster-status: ## Show what runs
	@python3 -m clusters status

kubeconfig: ## Print the path of the local cluster's kubeconfig
	@python3 -m clusters kubeconfig

images: ## Build and push what changed
	@python3 -m images build --push

crds: venv ## Write crds/ and the chart's copy from the models
	PYTHONPATH=operator/src:trainer/src $(PY) -m fettle_operator.crd crds charts/fettle/files/crds

env: ## Print the lines that point your shell at the local cluster
	@python3 -m clusters env

lock: ## Renew locks/ from pyproject.toml
	@scripts/lock.sh

clean: ## Remove what builds left in this folder
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
