# `make demo` and `make test` make the virtual environment they need, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint clean

demo: .venv/.installed-cpu
	$(BIN)/sicl-jax demo --workdir runs/demo

test: .venv/.installed-test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv runs build *.egg-info

.venv/.created:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed-cpu: .venv/.created pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu]'
	touch $@

.venv/.installed-test: .venv/.installed-cpu
	$(PIP) --editable '.[cpu,test]'
	touch $@
