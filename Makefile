# make run    a virtual environment, the dependencies, the server on http://127.0.0.1:8000
# make test   everything that the tests need, and the tests
# make cover  the tests again, with branch coverage (on Python 3.12 or newer)
# make check  lint, format, types
# make bench  the benchmarks, beside their peers
# make lock   the exact versions anew, from the ranges
#
# PYTHON=python3.13 VENV=.venv-3.13 uses another interpreter.
# ROUNDS=0.25 takes a quarter of the rounds of the long sweeps (tests/rounds.py), and still every test.

PYTHON ?= $(shell sh scripts/python.sh)
VENV ?= .venv
BIN := $(VENV)/bin
# On two processors three take a quarter less time than two: the tests wait for much.
WORKERS ?= 3
PYTEST_ARGS ?=
COVERAGE ?= 99
COVERED ?= quart_app tests

# Tests start a thousand servers, and none of them is to compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test cover check bench lock clean

run: $(VENV)/.run
	$(BIN)/quart-app serve --bind 127.0.0.1:8000

test: $(VENV)/.test
	sh scripts/debian-packages.sh chromium redis-server postgresql openssl iproute2 procps
	-sh scripts/debian-packages.sh chromium-headless-shell # Faster; without it Chromium does it.
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# Python 3.11 loses count of its frames after a cancel (a coroutine's `throw` has a return event and no
# call event), and coverage then takes lines for missing that have run.
cover: $(VENV)/.test
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12) and "coverage needs Python >= 3.12: PYTHON=python3.13 VENV=.venv-3.13")'
	$(BIN)/python -m pytest -n $(WORKERS) -o faulthandler_timeout=900 $(COVERED:%=--cov=%) \
		--cov-report=term --cov-fail-under=$(COVERAGE) $(PYTEST_ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	sh scripts/debian-packages.sh wrk chromium redis-server postgresql
	$(BIN)/python -m benchmarks

lock: $(VENV)/.test
	$(BIN)/python -m pip install --quiet uv
	for name in run test bench; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
			--no-header requirements/$$name.in -o requirements/$$name.lock; \
	done

$(VENV)/.run: requirements/run.lock pyproject.toml
	sh scripts/environment.sh "$(PYTHON)" "$(VENV)" run

$(VENV)/.test: requirements/test.lock pyproject.toml
	sh scripts/environment.sh "$(PYTHON)" "$(VENV)" test

$(VENV)/.bench: requirements/bench.lock pyproject.toml
	sh scripts/environment.sh "$(PYTHON)" "$(VENV)" bench

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
