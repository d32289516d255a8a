# make demo: pre-train SimCLR on generated scenes and compare its features.   make test: lint, types, tests.
PYTHON ?= python3
VENV := .venv

.PHONY: demo test clean

demo: $(VENV)/.demo
	$(VENV)/bin/python -m reference simclr

test: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	HYPOTHESIS_PROFILE=ci $(VENV)/bin/python -m pytest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable '.[reference]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
