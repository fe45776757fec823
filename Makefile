# Everything runs from .venv, which is made on demand from the hash-locked requirements.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Named after what it was made from: a changed lock or project file, or another branch, installs again; nothing else does.
STAMP := .venv/.installed-$(firstword $(shell cat requirements.lock pyproject.toml | sha256sum))
PROTOS := $(sort $(wildcard proto/*/v1/*.proto))
# Only exchange.proto holds a service.
SERVICES := proto/exchange/v1/exchange.proto

.PHONY: help demo test lint format proto lock readme soak faults bench clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP)  ## two countries, two nodes, six desks, real input; leaves ./demo to look around in
	$(BIN)/tocsin demo

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)  ## ruff, mypy, import-linter, buf, generated code fresh, README help blocks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(call protoc,$$fresh) && for package in keys/v1 exchange/v1; do diff -ru -x __init__.py -x __pycache__ "$$fresh/$$package" $$package || { echo "generated code is stale: make proto"; exit 1; }; done
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_readme.py

format: $(STAMP)  ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP)  ## regenerate keys/v1 and exchange/v1 from proto/
	rm -f keys/v1/*_pb2* exchange/v1/*_pb2*
	$(call protoc,.)

lock: $(STAMP)  ## resolve the newest versions into requirements.lock; needs pip-tools on the path
	pip-compile --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml

readme: $(STAMP)  ## rewrite the help blocks of README.md from --help
	$(BIN)/python tests/test_readme.py

# SEEDS=n how many, FIRST=n the first, KIND=name a bug planted on purpose (tests/simulation/mutants.py),
# SCENARIO=rotation for every key changed over 44 days, outage, months, backups, restored, or lies with KIND=Hostile (docs/RELIABILITY.md)
SEEDS ?= 10000
FIRST ?= 0
KIND ?= Simulation
SCENARIO ?= trouble
soak: $(STAMP)  ## both countries under simulated faults, SEEDS=10000; a seed that fails says how to replay it
	$(BIN)/python -m tests.simulation $(SEEDS) --first $(FIRST) --kind $(KIND) --scenario $(SCENARIO)

# KILLS=n, STAND=seconds stopped, FLOOD=seconds of hostile traffic, IDLE=n subscribers; 0 leaves one out. Some 20 minutes
KILLS ?= 200
STAND ?= 45
FLOOD ?= 600
IDLE ?= 1000
faults: $(STAMP)  ## kill -9, standing still and hostile traffic against real processes and files; prints figures
	$(BIN)/python -m tests.faults --kills $(KILLS) --stand $(STAND) --flood $(FLOOD) --idle $(IDLE)

bench: $(STAMP)  ## measure; prints, and writes bench/out/
	$(BIN)/python -m bench

clean:  ## remove what make made, ./demo included
	rm -rf .venv demo dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# $(call protoc,DIRECTORY): DIRECTORY may be $$fresh, a new temporary directory.
define protoc
fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out="$(1)" --pyi_out="$(1)" $(PROTOS) && \
	$(BIN)/python -m grpc_tools.protoc -I proto --grpc_python_out="$(1)" $(SERVICES)
endef

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tocsin needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-*
	@touch $@
