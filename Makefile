PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup test demo check clean image-check

setup: $(STAMP)

# Rebuilt when the dependencies change; code changes need nothing, since the install is editable.
$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("headwater needs Python 3.10 or newer, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[cpu,hub,demo,bench,dev]'
	touch $(STAMP)
