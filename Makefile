# Every target installs what it needs first. Requirements: Python 3.11 or newer, git and make.
# Options: PYTHON=<interpreter for .venv>, VENV=<folder>, WORKERS=<test processes>, DATA=<folder of data sets>.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
WORKERS ?= 2
DATA    ?= ../shared/data

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# Nothing is compiled at installation (see below). With this variable, which many container images set, every process
# would compile all that it imports: 21 s of CPU in place of 8 for torch, open_clip and DVC.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup test test-all demo docs caltech results bench lint format constraints clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## create .venv and install everything; does nothing unless pyproject.toml or constraints.txt changed

# The stamp is written last, so an interrupted installation is repeated. Bytecode is not compiled here: it would take a
# minute and a half on one core, and most of the files are never imported.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo "installing into $(VENV): 3 to 4 minutes and 6 GB the first time"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --root-user-action=ignore \
	  -c constraints.txt -e '.[demo,dev,docs]'
	@touch $@

# Each worker computes with one thread: more threads than cores spend their time waiting for one another. A file stays
# on one worker, because its tests share costly fixtures. tests/conftest.py puts the longest files first, so pytest-xdist
# must not sort them by their number of tests.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## run all tests that need no cluster, browser or server
	$(PYTEST) -m "not system"

test-all: $(STAMP)  ## run all tests; .ci/run runs this
	$(PYTEST)

demo: $(STAMP)  ## run the whole pipeline on the images and the encoder that come with the project
	$(BIN)/shipyard run

caltech: $(STAMP)  ## run Caltech101 from DATA/caltech-101; changes two lines of params.yaml and prints them
	$(BIN)/shipyard run caltech101 --set data.root=$(DATA)

results: $(STAMP)  ## run every docs/results/*.yaml on DATA and put its tables into the page of the same name
	@for recipe in $(filter-out %_clip.yaml,$(wildcard docs/results/*.yaml)); do \
	  $(BIN)/shipyard run --recipe $$recipe --set data.root=$(DATA) && \
	  $(BIN)/shipyard report --into $${recipe%.yaml}.md || exit 1; done
	@$(BIN)/python -m benchmarks.real_clip $(DATA)/clip-vit-b32

bench: $(STAMP)  ## compare each step with the papers' code; writes benchmarks/latest.json
	$(BIN)/python -m benchmarks

docs: $(STAMP)  ## build the pages of docs/ as a site in build/site; a broken link is an error
	$(BIN)/mkdocs build --quiet --strict

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints:  ## resolve all dependencies again and write constraints.txt
	rm -rf build/resolve && "$(PYTHON)" -m venv build/resolve
	build/resolve/bin/python -m pip install -qq -e '.[demo,dev,docs]'
	{ echo '# Exact versions of everything that `pip install -e .[demo,dev,docs]` brings; written by `make constraints`.'; \
	  build/resolve/bin/python -m pip freeze --exclude-editable; } > constraints.txt
	rm -rf build/resolve

clean:  ## remove .venv and the caches of tools; keeps artifacts/ and DVC's cache
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
