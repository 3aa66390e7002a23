# `make test` and `make demo` each do all the set-up that they need: Python 3.11 or newer, git and make suffice.
# Options: PYTHON=<interpreter to build .venv from>, VENV=<folder>, WORKERS=<test processes>, DATA=<folder of data sets>.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
WORKERS ?= 2
DATA    ?= ../shared/data

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup test demo docs caltech results bench lint format constraints clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## make .venv and install; nothing to do until pyproject.toml or constraints.txt change

# The stamp is written last, so an install that was interrupted is done again. Bytecode is left to the first import: most
# of the files are never imported, and to compile them all is a minute and a half of one core.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"error: {sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo "installing into $(VENV): 3 to 4 minutes and 6 GB the first time"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --root-user-action=ignore \
	  -c constraints.txt -e '.[demo,dev,docs]'
	@touch $@

# A worker computes with one thread: with more than there are cores, they spin to wait for one another.
test: $(STAMP)  ## every test; a file stays on one worker, for some share costly fixtures
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

demo: $(STAMP)  ## the whole pipeline on the pictures and the encoder that come with the project
	$(BIN)/shipyard run

caltech: $(STAMP)  ## Caltech101, from DATA/caltech-101; changes two lines of params.yaml and says which
	$(BIN)/shipyard run caltech101 --set data.root=$(DATA)

results: $(STAMP)  ## every docs/results/*.yaml, from DATA: its tables into the page of the same name
	@for recipe in docs/results/*.yaml; do \
	  $(BIN)/shipyard run --recipe $$recipe --set data.root=$(DATA) && \
	  $(BIN)/shipyard report --into $${recipe%.yaml}.md || exit 1; done

bench: $(STAMP)  ## compare with what the papers' code does at each step; writes benchmarks/latest.json
	$(BIN)/python -m benchmarks

docs: $(STAMP)  ## the pages of docs/ as a site in build/site; a link that leads nowhere is an error
	$(BIN)/mkdocs build --quiet --strict

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints:  ## resolve every dependency anew and write constraints.txt
	rm -rf build/resolve && "$(PYTHON)" -m venv build/resolve
	build/resolve/bin/python -m pip install -qq -e '.[demo,dev,docs]'
	{ echo '# Exact versions of everything that `pip install -e .[demo,dev,docs]` brings; `make constraints` writes this file anew.'; \
	  build/resolve/bin/python -m pip freeze --exclude-editable; } > constraints.txt
	rm -rf build/resolve

clean:  ## remove .venv and the tools' caches; results in artifacts/ and DVC's cache stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
