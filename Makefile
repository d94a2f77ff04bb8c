# make search: the default search.  make test: the test suite.  Both set up .venv first.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.dev-ready

.PHONY: search test lint clean

search: $(READY)
	$(VENV)/bin/python search.py --search-strategy evolution

test: $(DEV_READY)
	$(VENV)/bin/python -m pytest

lint: $(DEV_READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --progress-bar on -r requirements.txt
	touch $@

$(DEV_READY): $(READY) requirements-dev.txt requirements-export.txt
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt -r requirements-export.txt
	touch $@

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache
