# Everything that a person runs from a clone. Each target does its own set-up, once:
#
#   .venv               a virtual environment with the pinned dependencies and the program itself (editable)
#   system packages     as root on Debian or Ubuntu, what tests/apt-*.txt name and is missing (tests/setup-debian);
#                       SETUP=no forbids it, and elsewhere it is left out: then what is missing is a named skip
#
# Stamps under .venv remember what was done, so a second `make test` starts at once; a changed C file is rebuilt,
# a changed pyproject.toml or constraints.txt installed again. PYTHON=... chooses the interpreter (3.11 or newer).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
SETUP ?= yes
PYTEST := $(BIN)/python -m pytest
# So many files of tests run at once (pytest-xdist): two more than there are processors, since tests wait for half of
# their time, but at most 8. PROCESSES=0 runs them one after the other in one process, as a debugger wants it.
PROCESSES ?= $(shell echo $$(( $$(nproc) < 6 ? $$(nproc) + 2 : 8 )))
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
# The unit tests run once, on the wheel: what passes there is what a user gets. Those about the sources run in the tree.
UNIT_SOURCES := $(addprefix tests/unit/test_,tidy.py control_purity.py) $(wildcard tests/unit/test_benchmarks*.py)
UNIT_WHEEL := $(filter-out $(UNIT_SOURCES),$(wildcard tests/unit/test_*.py))
NATIVE := $(wildcard native/*.c native/*.h native/*.py) setup.py

export SETUP PROCESSES
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# A clean environment asks the index for each package again: one slow answer of it is no reason to fail.
export PIP_RETRIES ?= 10
export PIP_TIMEOUT ?= 60

.PHONY: help demo test accept fuzz sim kernels units lint wheel bench build setup-demo setup-test setup-bench clean

help:
	@echo 'make demo     see it work: three hosts and their containers on this machine, in namespaces'
	@echo 'make test     style, types, packages and all tests (root for most of them)'
	@echo 'make lint     style and types alone'
	@echo 'make sim      the control plane in the simulator, 10 000 seeds'
	@echo 'make fuzz     the fuzzers, a hundred times longer than in make test'
	@echo 'make kernels  the tests that lean on the kernel, on kernels of Debian 11 to 13, under QEMU (long)'
	@echo 'make units    our systemd unit beside those of Docker, under systemd in a QEMU guest (minutes)'
	@echo 'make accept   the figures that this version promises, measured on this machine (long)'
	@echo 'make bench    vxlanu beside kernel vxlan: the main ratios (5 minutes)'
	@echo 'make clean    remove everything that was made here, .venv too'

demo: setup-demo build
	@$(BIN)/vxlanu lab demo

test: setup-test lint wheel $(VENV)/.bench
	@echo '==> tests'
	@$(PYTEST) -m 'not accept' -n $(PROCESSES) --dist loadfile --no-loadscope-reorder \
		$(addprefix --ignore=,$(UNIT_WHEEL)) $(PYTEST_FLAGS)

accept: setup-test build
	@$(PYTEST) -m accept -s $(PYTEST_FLAGS)

bench: setup-bench build $(VENV)/.bench
	@$(BIN)/python -m benchmarks compare --peers vxlanu,kernel --meters short --seconds 1 $(BENCH_FLAGS)

fuzz: setup-test build
	@VXLANU_FUZZ_TIMES=$${VXLANU_FUZZ_TIMES:-100} $(PYTEST) tests/fuzz --timeout 3600 $(PYTEST_FLAGS)

sim: build
	@VXLANU_SIM_SEEDS=$${VXLANU_SIM_SEEDS:-10000} $(PYTEST) tests/sim --timeout 36000 $(PYTEST_FLAGS)

kernels: setup-test build
	@tests/setup-debian tests/apt-kernels.txt
	@tests/kernels/run $(KERNELS)

units: setup-test build
	@tests/setup-debian tests/apt-kernels.txt
	@tests/kernels/run --systemd $(or $(KERNELS),6.1)

lint: build
	@echo '==> style and types'
	@$(BIN)/ruff check
	@$(BIN)/mypy

wheel: build
	@echo '==> sdist, wheel, and the unit tests on the wheel in a clean environment'
	@tests/check-wheel $(BIN)/python $(UNIT_SOURCES)

setup-demo:
	@tests/setup-debian tests/apt-demo.txt

setup-test:
	@tests/setup-debian tests/apt-demo.txt tests/apt-bench.txt tests/apt-test.txt

setup-bench:
	@tests/setup-debian tests/apt-demo.txt tests/apt-bench.txt

# The order matters on a fresh machine: headers and compiler come before the environment that needs them. Bytecode is
# made here and now, for tests start hundreds of agents, and PYTHONDONTWRITEBYTECODE would let each compile all of it.
build: $(VENV)/.built
	@$(BIN)/python -m compileall -q vxlanu control

$(VENV)/.built: $(VENV)/.installed $(NATIVE)
	@echo '==> building vxlanu._native'
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	@tests/setup-venv $(VENV) $(PYTHON)
	@touch $@

# The extra `bench`: what draws the plots.
$(VENV)/.bench: $(VENV)/.installed
	@$(BIN)/python -m pip --quiet install -c constraints.txt matplotlib
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info vxlanu/_native*.so vxlanu._native.c
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
