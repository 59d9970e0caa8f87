# Every target does its own set-up; see docs/how-to/install.md for what a machine needs before it.
SHELL := /bin/sh
PYTEST := .venv/bin/python -m pytest
TYPED := mesh_core api projections bench tests/support

.PHONY: demo test soak check bench lock vendor

demo:  ## Kafka, Postgres, Northwind, API: until Ctrl-C. `make demo ARGS=--exit` checks and stops.
	@requirements/install demo
	@./mesh demo $(ARGS)

test:  ## The whole suite, without the soaks: under 10 minutes.
	@requirements/install dev
	@$(PYTEST) -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

soak:  ## The long runs and fault runs.
	@requirements/install dev
	@$(PYTEST) -m soak --timeout 3600 $(ARGS)

check:  ## Lint, types, import rules, documentation against code.
	@requirements/install dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy $(TYPED)
	@.venv/bin/lint-imports
	@$(PYTEST) tests/docs -q

bench:  ## The benchmarks, beside their floors and peers.
	@requirements/install dev
	@./mesh bench $(ARGS)

lock:  ## Pins the requirements anew, from pyproject.toml.
	@requirements/install dev
	@requirements/compile

vendor:  ## Swagger UI as it is pinned, by npm, into api/static. `make vendor ARGS=5.35.0` takes and pins another.
	@requirements/vendor $(ARGS)
