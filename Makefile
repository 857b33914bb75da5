# Everything runs from .venv, which these rules make and keep up to date. A fresh machine needs
# python3 (3.10 or newer, with venv), a C++ compiler and make; the rest comes from PyPI.
#
# PYTHON       the interpreter that .venv is made with
# WERROR       ON: compiler warnings are errors (CI's setting; a newer compiler may know new ones)
# CUDA         AUTO: the CUDA kernels are built and tested if there is an nvcc; ON or OFF
# CUDA_ARCHITECTURES
#              what they are built for: enough for the tests, not what a wheel needs (all-major)
# TORCH_INDEX  an extra package index, e.g. https://download.pytorch.org/whl/cpu for torch without
#              the CUDA libraries that its Linux wheels otherwise bring along
# MINUTES      how long `make fuzz` takes (30), or each target of `make fuzz-bytes` (5)
PYTHON ?= python3
WERROR ?= OFF
CUDA ?= AUTO
CUDA_ARCHITECTURES ?= 75;90;120
TORCH_INDEX ?=
MINUTES ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# Directories are listed too: their time changes when a file is added or removed.
SOURCES := CMakeLists.txt pyproject.toml \
  $(shell find csrc cmake extern/ptxemu/src python/subgrad_fast -not -name __pycache__ -not -name '*.pyc' -not -name '*.so')
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.inl' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test test-slow test-neon test-cuda test-clients test-clients-quick docs fuzz fuzz-bytes cuda-mutants cuda-report lint format bench bench-page instructions instructions-write sdist-check sanitize clean

help:
	@echo "make demo          train on MNIST with torch's SGD and with this one, compare the bits"
	@echo "make test          build, install into .venv, run the tests"
	@echo "make test-slow     the tests that take minutes or many GiB"
	@echo "make test-clients  Lightning, accelerate, transformers and others with our loaders; installs them"
	@echo "make docs          the site, in build/docs: open build/docs/index.html"
	@echo "make test-neon     the NEON kernels under qemu-aarch64: same bits as here"
	@echo "make test-cuda     the CUDA kernels: their PTX interpreted, and on a GPU if there is one"
	@echo "make fuzz          random calls of everything, for MINUTES=30; names each fault's seed"
	@echo "make cuda-mutants  faults put into the CUDA kernels, each of which the tests must find"
	@echo "make cuda-report   registers, occupancy, memory traffic of the CUDA kernels, in docs/"
	@echo "make bench         time everything against its peers; BENCH='dense --quick' chooses"
	@echo "make bench-page    docs/benchmarks.md, README's table, the charts: of benchmarks/results/*.json"
	@echo "make instructions  count the instructions of hot calls (valgrind), compare with those kept"
	@echo "make lint, format  ruff, mypy, stubtest, clang-format"
	@echo "make sdist-check   sdist -> wheel -> import in an empty directory, without torch"
	@echo "make sanitize      kernel tests under Address-, UndefinedBehavior- and ThreadSanitizer"
	@echo "make fuzz-bytes    bytes that find their way into the border; MINUTES=5 a target"
	@echo "make clean         remove .venv and everything built"

demo: $(VENV)/.have-demo $(VENV)/.installed
	$(PY) -m subgrad_fast demo

test: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m pytest -m slow

# The libraries are many; the quick half takes those of a few MB.
test-clients: $(VENV)/.have-test $(VENV)/.have-clients $(VENV)/.installed
	$(PY) -m pytest tests/clients -m clients

test-clients-quick: $(VENV)/.have-test $(VENV)/.have-clients-quick $(VENV)/.installed
	$(PY) -m pytest tests/clients -m clients

# The reference is read from the sources, so nothing has to be built.
docs: $(VENV)/.have-docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

test-cuda: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m pytest tests/cuda

fuzz: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m tests.fuzz --minutes $(or $(MINUTES),30)

cuda-mutants: $(VENV)/.have-test $(VENV)/.installed
	$(PY) tools/cuda_mutants.py

cuda-report: $(VENV)/.have-test $(VENV)/.have-report $(VENV)/.installed
	$(PY) tools/cuda_report.py

test-neon: $(VENV)/.installed
	tools/neon_check.sh

bench: $(VENV)/.have-demo $(VENV)/.installed
	$(PY) -m subgrad_fast bench $(BENCH)

bench-page: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m benchmarks.page

# Needs valgrind; says so where there is none.
instructions: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m benchmarks.instructions

instructions-write: $(VENV)/.have-test $(VENV)/.installed
	$(PY) -m benchmarks.instructions --write

lint: $(VENV)/.have-lint $(VENV)/.installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy.stubtest --allowlist tools/stubtest_allowlist.txt subgrad_fast._core
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)

format: $(VENV)/.have-lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(CXX_FILES)

sdist-check: $(VENV)/.have-dist
	tools/sdist_check.sh

sanitize: $(VENV)/.have-test $(VENV)/.have-build
	tools/sanitize.sh
	tools/tsan.sh

fuzz-bytes: $(VENV)/.have-test $(VENV)/.have-build
	tools/sanitize.sh -m tests.fuzz_bytes --minutes $(or $(MINUTES),5)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps. The build directory is kept (build-dir in pyproject.toml) and the build tools are the
# ones in .venv, always at the same paths, so a reinstall compiles only what changed. The stamp is as
# old as the beginning of its build, so that what was edited meanwhile is built the next time.
$(VENV)/.installed: $(SOURCES) $(VENV)/.have-build
	@echo "building and installing subgrad_fast"
	@touch $@.begun
	@CUDAARCHS='$(CUDA_ARCHITECTURES)' \
	  SKBUILD_CMAKE_DEFINE='SUBGRAD_WERROR=$(WERROR);SUBGRAD_CUDA=$(CUDA);SUBGRAD_CUDA_EMULATED=ON;SUBGRAD_BUILD_VECTORS=ON' \
	  $(PIP) --no-deps --no-build-isolation --force-reinstall .
	@mv $@.begun $@

$(VENV)/.have-%: requirements/%.txt requirements/constraints.txt $(VENV)/.created
	@echo "installing $<"
	@$(PIP) $(TORCH_INDEX:%=--extra-index-url %) -r $<
	@touch $@

# fastai and timm come without what they name: torchvision, which loads beside one build of torch
# only, and spaCy; opacus and pytorch-optimizer without a torch. What they need stands in clients.txt.
$(VENV)/.have-clients: requirements/clients.txt requirements/constraints.txt $(VENV)/.have-clients-quick
	@echo "installing $<"
	@$(PIP) $(TORCH_INDEX:%=--extra-index-url %) -r $<
	@$(PIP) --no-deps -c requirements/constraints.txt fastai opacus pytorch-optimizer timm
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: Python 3.10 or newer is needed, $(PYTHON) is not; try make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "error: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu:" \
	    "apt install python3-venv" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { \
	  echo "error: no C++ compiler; on Debian or Ubuntu: apt install g++" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
