# `make demo` and `make test` are all that a newcomer needs. Each command first builds .venv from the lock, if it is not up to date.
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench faults screenshots engines lock sbom clean

UV_VERSION := 0.13.9
BIN := .venv/bin
UV := $(BIN)/uv
# Engines to test on: embedded (quick, nothing to install), real or all.
ENGINES ?= all
# Test files at a time, each process of them with engines of its own: tests wait for engines most of their time.
WORKERS ?= 3
# Further words for the command: make demo ARGS=--exit, make test ARGS='tests/streams -x'.
ARGS ?=
# Of `make bench`: the one result to measure.
ONLY ?=
# Of `make faults`: how many rounds, which ones, and from which number on.
ROUNDS ?= 100
SEED ?= 2026
FIRST ?= 0

# Where the machine has certificates of its own, they are believed, as pip does.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := true
endif

help:
	@echo 'make demo     see it work, on the embedded engines (ARGS=--exit: do not stay up)'
	@echo "              (ARGS='--engines --replicas 2': on Kafka, PostgreSQL and OPA, with two gateways)"
	@echo 'make test     every test, on the embedded and the real engines (ENGINES=embedded: the quick way)'
	@echo 'make check    format, lint, types, imports, the caps of the house; seconds'
	@echo 'make engines  fetch and start Kafka, OPA and PostgreSQL for development, until Ctrl-C'
	@echo 'make bench    measure on real engines, about twelve minutes (ONLY=name: one result)'
	@echo 'make faults   kill, stop and cut off replicas under load, about ten minutes (ROUNDS=5 SEED=7)'
	@echo 'make screenshots  a picture of each page at both widths, light and dark, in screenshots/'
	@echo 'make format   put the code into the form that `make check` asks for'
	@echo 'make lock     write the locks anew from pyproject.toml'
	@echo 'make sbom     write sbom.cdx.json: what the production lock installs, as CycloneDX'
	@echo 'make clean    remove what these made'

demo: .venv/.server
	$(BIN)/exchange demo $(ARGS)

test: .venv/.dev
ifneq ($(ENGINES),embedded)
	$(BIN)/python -m tests.engines.install
endif
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --engines=$(ENGINES) $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q --engines=embedded tests/test_house.py

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.dev
	$(BIN)/exchange bench $(if $(ONLY),--only $(ONLY)) $(ARGS)

faults: .venv/.dev
	@$(BIN)/python -m tests.engines.install
	@$(BIN)/python -m tests.replicas --rounds $(ROUNDS) --seed $(SEED) --first $(FIRST)

screenshots: .venv/.dev
	@$(BIN)/python -m tests.engines.install
	mkdir -p screenshots
	EXCHANGE_SCREENSHOTS=$(CURDIR)/screenshots $(BIN)/python -m pytest -q --engines=all -k embedded tests/console $(ARGS)

engines: .venv/.dev
	@$(BIN)/python -m tests.engines.install
	@$(BIN)/python -m tests.engines $(ARGS)

# The demo installs requirements.txt; what the other commands need besides is in requirements-dev.txt, which holds all of the first.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --group build
lock: $(UV)
	$(BIN)/$(LOCK) pyproject.toml --extra server -o requirements.txt
	$(BIN)/$(LOCK) pyproject.toml --extra server --extra dev -c requirements.txt -o requirements-dev.txt

# From the lock and nothing else: the same lock gives the same file, on any machine.
sbom: .venv/.dev
	$(BIN)/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --mc-type application --spec-version 1.6 \
	  --output-reproducible --output-format JSON --output-file sbom.cdx.json

clean:
	rm -rf .venv demo-data screenshots sbom.cdx.json bench.json faults.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,LOCK): exactly what the lock says, and this checkout on top of it. Compiled once, here: where Python is told not to
# write bytecode, as in many containers, each start of a gateway would compile all anew, which takes longer than the start itself.
define install
$(UV) pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python $(1)
$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
$(BIN)/python -m compileall -q gateway consent connectors
endef

.venv/.server: requirements.txt pyproject.toml $(UV)
	$(call install,requirements.txt)
	@touch $@

# What the demo needs is in this lock too: afterwards both are up to date.
.venv/.dev: requirements-dev.txt requirements.txt pyproject.toml $(UV)
	$(call install,requirements-dev.txt)
	@touch .venv/.server $@

# The first Python that is new enough and can make environments. A name may be on the PATH and still not run, so each is tried.
$(UV):
	@set -e; for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Building .venv with $$($$python -V) ..."; \
	    $$python -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	    exit; \
	  fi; \
	done; \
	echo 'Python 3.11 or later with its venv module is needed (Debian: apt-get install python3 python3-venv), and none of' >&2; \
	echo 'python3.13, python3.12, python3.11, python3 is one.' >&2; \
	exit 1
