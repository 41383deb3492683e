# Nothing but python >= 3.10 and make is needed beforehand:
#   make qm9     environment, installation and the main job on the embedded molecules
#   make test    the whole test suite
#   make full    what takes too long for every change; each part skips by name
#   make wheels  wheels for users without a compiler, into dist/; docs/release.md
#
# Variables (example: make qm9 PYTHON=python3.12 DEVICE=gpu):
#   PYTHON       interpreter that makes the virtual environment
#   VENV         where that environment lies
#   TORCH        requirement of torch to install
#   DEVICE       auto, cpu or gpu: which build of torch; auto looks for an NVIDIA GPU
#   TORCH_INDEX  package index that holds the CPU builds of torch
#   QM9_ARGS     arguments of examples/qm9.py
#   TEST_ARGS    arguments of pytest
#   WORKERS      processes that run the tests, one thread each
#   WHEEL_TESTS  which of them run against the built wheel
#   BENCH_ARGS   arguments of python -m benchmarks.speed
#   PYTHON312    Python 3.12, for the suite of torch-sim
#   SIM_VENV     where the environment of that suite lies
#   WHEEL_CACHE  where the compiled extensions are kept
#   MACHINES     processors that make wheels builds for
#   PLUGIN       where the pair style of LAMMPS is built

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
DEVICE ?= auto
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
QM9_ARGS ?=
TEST_ARGS ?=
WORKERS ?= 2
WHEEL_TESTS ?= -m "not slow" tests/cg tests/conv tests/data tests/models \
	tests/ops/test_cpu_kernel.py tests/test_backends.py tests/test_package.py \
	tests/test_readme.py
BENCH_ARGS ?=
PYTHON312 ?= python3.12
SIM_VENV ?= build/torch-sim-venv
MACHINES ?= x86_64 aarch64
WHEEL_CACHE ?= $(HOME)/.cache/torch-cormorant/wheels
PLUGIN ?= build/lammps

SCATTER := torch-scatter==2.1.2
CLUSTER := torch-cluster==1.6.3

BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
# One thread for each process: threads of torch that wait for a busy core cost more.
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)
EXTENSIONS := build/extensions
BUILD_INPUTS := pyproject.toml setup.py torch_cormorant/cg/exact.py \
	$(wildcard torch_cormorant/csrc/* torch_cormorant/csrc/*/*)

.DELETE_ON_ERROR:
.PHONY: help qm9 test test-extensions extensions \
	extensions-folder bench fuzz sanitize sanitize-threads lint format types docs \
	wheel-test wheels publish clean full torch-sim aarch64 lammps-plugin

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

# ---- environment; a stamp file remembers each finished step

$(VENV)/.torch: scripts/install_torch.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10; try make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "no virtual environment: is python3-venv installed?" >&2; exit 2; }
	bash scripts/install_torch.sh $(PY) "$(TORCH)" $(DEVICE) $(TORCH_INDEX)
	@touch $@

$(VENV)/.train: $(VENV)/.torch $(BUILD_INPUTS)
	@echo "installing .[train] with pip; this takes a few minutes and prints nothing"
	$(PIP) install --quiet --editable ".[train]"
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "installing .[dev] with pip; this takes a few minutes and prints nothing"
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.train
	@echo "installing .[docs] with pip; this takes a few minutes and prints nothing"
	$(PIP) install --quiet --editable ".[docs]"
	@touch $@

# ---- the two commands of the README

qm9: $(VENV)/.train
	$(PY) examples/qm9.py $(QM9_ARGS)

test: $(VENV)/.dev
	$(PYTEST) $(TEST_ARGS)

# ---- checks

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(PY) -m sphinx -W --keep-going -b html docs docs/_build/html
	OMP_NUM_THREADS=1 $(PY) -m sphinx -W --keep-going -b doctest docs docs/_build/doctest

# Tests of what a wheel brings (tables, data, kernel, names) against the built wheel, in
# a folder that does not hold the source.
wheel-test: $(VENV)/.dev
	OMP_NUM_THREADS=1 bash scripts/wheel_test.sh $(PY) -n $(WORKERS) $(WHEEL_TESTS)

# What is published: a wheel for each processor, the source archive and their digests.
wheels: $(VENV)/.dev
	bash scripts/wheels.sh $(PY) dist $(MACHINES)

publish: wheels
	build/wheel-tools/bin/python -m twine upload $(PUBLISH_ARGS) dist/*.whl dist/*.tar.gz

# Thousands of spoilt calls of the operators, plainly and with the kernel built with
# AddressSanitizer and UndefinedBehaviorSanitizer.
fuzz: $(VENV)/.dev
	CORMORANT_FUZZ=3000 OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/ops/test_operands.py

sanitize: $(VENV)/.dev
	CORMORANT_FUZZ=1000 bash scripts/sanitize.sh $(PY) address \
		tests/ops/test_operands.py tests/ops/test_cpu_kernel.py \
		tests/ops/test_fused_edge.py tests/ops/test_fused_frames.py \
		tests/ops/test_fused_vertex.py tests/ops/test_level.py \
		tests/ops/test_painn.py tests/ops/test_splines.py \
		tests/ops/test_weighted_sum.py tests/interfaces/native \
		--deselect tests/interfaces/native/test_files.py::test_the_example_in_c

# Races between threads of our own.
sanitize-threads: $(VENV)/.dev
	bash scripts/sanitize.sh $(PY) thread -k thread tests/ops/test_cpu_kernel.py \
		tests/ops/test_fused_edge.py tests/ops/test_fused_vertex.py \
		tests/ops/test_level.py tests/ops/test_painn.py \
		tests/ops/test_splines.py tests/ops/test_weighted_sum.py \
		tests/interfaces/native

bench: $(VENV)/.dev
	$(PY) -m benchmarks.speed $(BENCH_ARGS)

# ---- long tiers: a part is a target, and its name stands here

FULL := fuzz sanitize sanitize-threads torch-sim aarch64

full: $(FULL)

# The states by which torch-sim tests its own models; needs Python 3.12.
torch-sim:
	bash scripts/torch_sim_suite.sh $(PYTHON312) $(SIM_VENV) "$(TORCH)" $(DEVICE) \
		$(TORCH_INDEX)

# The native evaluator for 64-bit ARM, by a cross compiler and qemu-user.
aarch64: $(VENV)/.dev
	OMP_NUM_THREADS=1 bash scripts/aarch64.sh $(PY)

# ---- torch-scatter and torch-cluster, built against the installed torch (minutes)

extensions: $(VENV)/.dev
	bash scripts/extensions.sh $(PY) "$(WHEEL_CACHE)" $(SCATTER) $(CLUSTER)
	$(PIP) install --quiet --no-index --no-deps \
		--find-links "$$(bash scripts/extensions.sh $(PY) "$(WHEEL_CACHE)")" \
		$(SCATTER) $(CLUSTER)

extensions-folder: $(VENV)/.dev
	@bash scripts/extensions.sh $(PY) "$(WHEEL_CACHE)"

# What the extensions touch, with both of them, without putting them into the environment.
test-extensions: $(VENV)/.dev
	bash scripts/extensions.sh $(PY) "$(WHEEL_CACHE)" $(SCATTER) $(CLUSTER)
	rm -rf $(EXTENSIONS)
	$(PIP) install --quiet --no-index --no-deps --target $(EXTENSIONS) \
		--find-links "$$(bash scripts/extensions.sh $(PY) "$(WHEEL_CACHE)")" \
		$(SCATTER) $(CLUSTER)
	PYTHONPATH=$(EXTENSIONS) $(PY) -c 'import torch_cluster, torch_scatter'
	PYTHONPATH=$(EXTENSIONS) $(PYTEST) $(TEST_ARGS) tests/graph tests/ops \
		tests/test_backends.py tests/test_package.py tests/test_doctests.py

# ---- pair_style cormorant for the LAMMPS of the environment (seconds)

lammps-plugin: $(PLUGIN)/cormorantplugin.so

$(PLUGIN)/cormorantplugin.so: $(VENV)/.dev scripts/lammps_plugin.sh \
		$(wildcard plugins/lammps/*) torch_cormorant/csrc/native/cormorant.h \
		torch_cormorant/ops/_cpu_kernel.so
	bash scripts/lammps_plugin.sh $(PY) $(PLUGIN)

torch_cormorant/ops/_cpu_kernel.so: $(VENV)/.train

clean:
	rm -rf build dist docs/_build docs/api *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
