# `make demo` and `make test` make the virtual environment they need, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs clean

demo: .venv/.installed-cpu
	$(BIN)/sicl-jax demo --workdir runs/demo

test: .venv/.installed-test
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The table of all fields, and the API reference; then every link is looked up.
docs: .venv/.installed-docs
	$(BIN)/sicl-jax config --markdown > docs/config.md
	rm -rf build/docs
	$(BIN)/pdoc --docformat google --output-directory build/docs sicl_jax tfds_builders.reid
	$(BIN)/python docs/check_links.py README.md CONTRIBUTING.md CHANGELOG.md docs build/docs

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

.venv/.installed-docs: .venv/.installed-cpu
	$(PIP) --editable '.[cpu,docs]'
	touch $@
