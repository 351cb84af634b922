# Everything a newcomer types. Each target creates .venv when it is missing or older than the pins.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PEERS := .venv/.peers
ARGS ?=
ONLY ?=

# Much is started as a process of its own: what has been compiled once is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo up test again chaos check bench clean

install: $(READY)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Amends needs Python 3.11 or later; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)
	$(BIN)/amends demo $(ARGS)

up: $(READY)
	$(BIN)/amends up $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

# What has just failed, once more and one at a time: what was only slow beside others passes.
again: $(READY)
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 $(ARGS)

chaos: $(READY)
	$(BIN)/python -m chaos $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/amends check

# What the benchmarks compare with, in versions that go with our own.
$(PEERS): $(READY) requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-bench.txt
	@touch $(PEERS)

# All benchmarks, or some: make bench ONLY=append,commands ARGS="--rounds 3 --scale 0.1"
bench: $(PEERS)
	$(BIN)/python -m bench --only "$(ONLY)" $(ARGS)
	$(BIN)/python -m bench.report

clean:
	rm -rf .venv .amends
