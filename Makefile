# Each target makes the environment it needs; nothing has to be installed beforehand but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
CORE_VENV ?= .venv-core
BIN := $(VENV)/bin
OUT ?= out
# For its JSON schema alone, which the tests check against; its own dependencies are not needed.
SCHEMAS := model-card-toolkit==2.0.0

.PHONY: demo test test-all test-core test-browser lint types layers notebooks bench reports docs clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps $(SCHEMAS)
	touch $@

$(CORE_VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CORE_VENV)
	$(CORE_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(CORE_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable . pytest pytest-timeout
	touch $@

demo: $(VENV)/.ready
	$(BIN)/auditkit demo --out $(OUT)

test: $(VENV)/.ready
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest -m "not browser" -n 2 --dist loadfile

test-core: $(CORE_VENV)/.ready
	$(CORE_VENV)/bin/python -m pytest tests/core_only

test-browser: $(VENV)/.ready
	cd tests/browser && npm ci --no-audit --no-fund
	$(BIN)/python -m pytest -m browser tests/browser

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/deptry auditkit

types: $(VENV)/.ready
	$(BIN)/mypy

layers: $(VENV)/.ready
	$(BIN)/lint-imports

notebooks: $(VENV)/.ready
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 -p no:cacheprovider --override-ini testpaths=notebooks --override-ini filterwarnings=default notebooks

bench: $(VENV)/.ready
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

reports: $(VENV)/.ready
	$(BIN)/python reports/rebuild.py

docs: $(VENV)/.ready
	$(BIN)/python -m mkdocs build --quiet

clean:
	rm -rf site $(VENV) $(CORE_VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
