# `make help` lists the targets. Everything runs in .venv, which the first target that needs it makes.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo-out
QUICK := not slow and not gpu
SOURCES := p2ch_luna tests scripts examples
PYTEST_2 := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "$(QUICK)"  # two processes of one thread each

.DEFAULT_GOAL := help
.PHONY: help demo test check lint test-slow format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## Write a phantom chest CT, find its nodules, print what was found
	$(BIN)/luna demo --output $(DEMO)

test: $(INSTALLED)  ## Run all tests but the slow ones and those that need a GPU; check the coverage
	$(PYTEST_2) --cov --cov-report=term-missing:skip-covered --cov-fail-under=85

check: lint  ## Lint, then run the quick tests: before every commit
	$(PYTEST_2) -q

lint: $(INSTALLED)  ## Check style, format and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict

test-slow: $(INSTALLED)  ## Run the slow tests
	$(BIN)/python -m pytest -m "slow and not gpu"

format: $(INSTALLED)  ## Format the code and sort its imports
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:  ## Remove .venv, caches and the demo's output
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .coverage build p2ch_luna.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt scripts/make_venv.sh
	scripts/make_venv.sh $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
