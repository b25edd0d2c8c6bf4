# Everything a developer does, each from a machine with nothing but Python 3.11–3.13 and make.
# Environments are made when missing and brought up to date when pyproject.toml changes.
#
#   make demo            instructions, then weights: train a small agent, offline; installs PyTorch (TORCH=torch==… names one)
#   make demo-light      its little sister: instructions only, no PyTorch  (ARGS="--output DIR …" goes to the command)
#   make test            the tests                                      (ARGS="-k name …" goes to pytest)
#   make lint            style and formatting
#   make check           lint, types and tests
#   make test-frameworks the tests that need one certain version of an SDK, each version in its own environment
#   make test-stores     the stores' tests, none skipped: needs PostgreSQL's server binaries, and npm (for Azurite)
#   make test-trackers   the tests of experiment trackers, none skipped, in an environment of their own
#   make test-verl       the tests of the hand-over to verl, none skipped, in an environment of their own (about 1.6 GB)
#   make docs            run the code in README and docs
#   make schema          write the configuration's JSON Schema and the tables of docs/configuration.md again
#   make clean           remove builds, caches and the side environments (.venv stays)

.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
SIDE ?= .venvs
ARGS ?=
TORCH ?= torch==2.13.0
comma := ,
FRAMEWORKS := openai-0.28 openai-2
PINS_openai-0.28 := openai==0.28.1 requests aiohttp
PINS_openai-2 := openai==2.54.0
FRAMEWORK_SETS := frameworks-newest frameworks-with-crewai
EXPECT_frameworks-newest := langchain,langgraph,autogen,openai_agents,litellm,anthropic_sdk,azure_openai
EXPECT_frameworks-with-crewai := $(EXPECT_frameworks-newest),crewai

.PHONY: help environments demo demo-light test lint check types docs schema clean test-stores store-servers test-frameworks test-verl $(FRAMEWORKS:%=test-%) $(FRAMEWORK_SETS:%=test-%)

IS_FIT := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
CANDIDATES := python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for p in $(CANDIDATES); do "$$p" -c '$(IS_FIT)' >/dev/null 2>&1 && echo "$$p" && break; done)

# One retry: a registry that stumbles once should not fail a build.
define install
	@echo "installing $(2) into $(1)"
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) || \
	  { echo "pip failed; trying once more"; sleep 5; $(1)/bin/python -m pip install --disable-pip-version-check $(2); }
endef

define make_venv
	@if [ -z "$(PYTHON)" ]; then \
	  echo "error: no Python 3.11, 3.12 or 3.13 with the venv module was found."; \
	  echo "       Install one (Debian, Ubuntu: apt install python3-venv), or name it: make PYTHON=/path/to/python3.12"; \
	  exit 1; fi
	@[ -x $(1)/bin/python ] || { echo "making $(1) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(1); }
endef

help:
	@sed -n '/^#  /s/^#  *//p' Makefile

# ── environments: one stamp each, older than pyproject.toml means out of date ──

# PyTorch first and by itself: left to the resolver, pip takes the newest one, whatever it brings along.
$(VENV)/.installed: pyproject.toml
	$(call make_venv,$(VENV))
	$(call install,$(VENV),$(TORCH))
	$(call install,$(VENV),-e '.[dev]')
	@touch $@

$(SIDE)/demo/.installed: pyproject.toml
	$(call make_venv,$(SIDE)/demo)
	$(call install,$(SIDE)/demo,-e '.[demo]')
	@touch $@

$(SIDE)/demo-weights/.installed: pyproject.toml
	$(call make_venv,$(SIDE)/demo-weights)
	$(call install,$(SIDE)/demo-weights,$(TORCH))
	$(call install,$(SIDE)/demo-weights,-e '.[demo$(comma)train]')
	@touch $@

TEST_TOOLS := 'pytest>=8.3' 'pytest-timeout>=2.3' 'hypothesis>=6.100'

$(FRAMEWORKS:%=$(SIDE)/%/.installed): $(SIDE)/%/.installed: pyproject.toml Makefile
	$(call make_venv,$(SIDE)/$*)
	$(call install,$(SIDE)/$*,-e . $(TEST_TOOLS) $(PINS_$*))
	@touch $@

# Every framework at once, versions pinned, dependencies not resolved again (about 0.6 and 1.4 GB).
$(FRAMEWORK_SETS:%=$(SIDE)/%/.installed): $(SIDE)/frameworks-%/.installed: tests/frameworks/requirements/%.txt pyproject.toml Makefile
	$(call make_venv,$(SIDE)/frameworks-$*)
	$(call install,$(SIDE)/frameworks-$*,--no-deps -r tests/frameworks/requirements/$*.txt)
	$(call install,$(SIDE)/frameworks-$*,-e . $(TEST_TOOLS))
	@touch $@

# What S3 and PostgreSQL are tested with comes from pip and the system; the emulator of Azure comes from npm.
$(SIDE)/azurite/.installed:
	@command -v npm >/dev/null || { echo "error: npm is needed to install Azurite (Debian, Ubuntu: apt install npm)"; exit 1; }
	@mkdir -p $(SIDE)/azurite
	npm install --prefix $(SIDE)/azurite --silent --no-fund --no-audit azurite@3.35.0
	@touch $@

# ── what they are for ──

demo: $(SIDE)/demo-weights/.installed
	$(SIDE)/demo-weights/bin/agentlightning demo --weights $(ARGS)

demo-light: $(SIDE)/demo/.installed
	$(SIDE)/demo/bin/agentlightning demo $(ARGS)

test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/pyright

check: lint types test

store-servers: $(SIDE)/azurite/.installed

# All side environments, so that making them can go on beside something else.
environments: $(patsubst %,$(SIDE)/%/.installed,$(FRAMEWORKS) $(FRAMEWORK_SETS) demo demo-weights trackers verl)

# AGENTLIGHTNING_EXPECT_STORES makes a test fail, not skip, when its server cannot be started.
test-stores: $(VENV)/.installed store-servers
	AGENTLIGHTNING_EXPECT_STORES=1 $(VENV)/bin/python -m pytest tests/store tests/contract/store tests/cli/test_store.py $(ARGS)

test-frameworks: $(FRAMEWORKS:%=test-%) $(FRAMEWORK_SETS:%=test-%)

# AGENTLIGHTNING_EXPECT_OPENAI makes a test that wants this version fail, not skip, when it does not find it.
$(FRAMEWORKS:%=test-%): test-%: $(SIDE)/%/.installed
	AGENTLIGHTNING_EXPECT_OPENAI=$(subst openai-,,$*) $(SIDE)/$*/bin/python -m pytest tests/frameworks $(ARGS)

# Frameworks leave connections to the garbage collector; that is theirs, and no test of ours.
$(FRAMEWORK_SETS:%=test-%): test-%: $(SIDE)/%/.installed
	AGENTLIGHTNING_EXPECT_FRAMEWORKS=$(EXPECT_$*) $(SIDE)/$*/bin/python -m pytest \
	  -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning \
	  tests/frameworks tests/contract/adapters $(ARGS)

$(SIDE)/trackers/.installed: pyproject.toml Makefile
	$(call make_venv,$(SIDE)/trackers)
	$(call install,$(SIDE)/trackers,-e '.[tensorboard$(comma)mlflow$(comma)wandb$(comma)trackio]' $(TEST_TOOLS) requests aiohttp)
	@touch $@

test-trackers: $(SIDE)/trackers/.installed
	AGENTLIGHTNING_EXPECT_TRACKERS=tensorboard,mlflow,wandb,trackio $(SIDE)/trackers/bin/python -m pytest \
	  tests/trainer/test_trackers.py $(ARGS)

# verl on the CPU: its configuration, agent loops, queue, replay buffer and trainer; there is no PyTorch for GPUs in it.
$(SIDE)/verl/.installed: tests/verl/requirements.txt pyproject.toml Makefile
	$(call make_venv,$(SIDE)/verl)
	$(call install,$(SIDE)/verl,$(TORCH))
	$(call install,$(SIDE)/verl,--no-deps -r tests/verl/requirements.txt)
	$(call install,$(SIDE)/verl,-e . $(TEST_TOOLS))
	@touch $@

# Its packages warn of one another's old names; that is theirs, and no test of ours.
test-verl: $(SIDE)/verl/.installed
	AGENTLIGHTNING_EXPECT_VERL=1 OMP_NUM_THREADS=1 $(SIDE)/verl/bin/python -m pytest \
	  -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::UserWarning tests/verl $(ARGS)

docs: $(VENV)/.installed
	@if [ -f docs/check.py ]; then $(VENV)/bin/python docs/check.py $(ARGS); else echo "docs/check.py is not there: no code to run"; fi

schema: $(VENV)/.installed
	$(VENV)/bin/python scripts/write_config_schema.py
	$(VENV)/bin/python scripts/write_config_docs.py
	$(VENV)/bin/python scripts/write_record_schema.py

clean:
	rm -rf $(SIDE) dist build .pytest_cache .ruff_cache .hypothesis .demo
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
