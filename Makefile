# Two commands for a new machine: "make demo" and "make test".
# They need Python 3.11 or later with pip, and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
DATABROKER_VENV ?= .venv-databroker
BIN = $(VENV)/bin

.PHONY: demo test test-all test-intake browser bench bench-finding bench-browsing bench-databroker bench-stores bench-moving test-ceph example clean

demo: $(VENV)/installed
	@$(BIN)/filebroker demo

# The two parts run beside each other.
test: $(VENV)/installed-test
	$(MAKE) --jobs=2 test-all test-intake

test-all: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

# A browser for the tests of Intake's window, where apt can install one.  Without one they are skipped.
browser:
	command -v chromium || { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium; }

# Intake 0.6.4, 0.7.0 and 2.0.9 on Python 3.11 and 3.13, each in an environment of its own.
test-intake: $(VENV)/installed-test
	$(BIN)/python tests/intake_matrix.py

bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/run.py

# Up to 100,000 runs: about ten minutes, and 2 GB in the temporary directory.
bench-finding: $(VENV)/installed-test
	$(BIN)/python benchmarks/finding.py --runs 1000 10000 100000

# With Intake, of up to 100,000 runs: about ten minutes, and 2 GB in the temporary directory.
bench-browsing: $(VENV)/installed-test
	$(BIN)/python benchmarks/browsing.py

# Against databroker 1.2.5, which gets an environment of its own: ten minutes, and 2 GB in the temporary directory.
bench-databroker: $(VENV)/installed-test $(DATABROKER_VENV)/installed
	DATABROKER_PYTHON=$(DATABROKER_VENV)/bin/python $(BIN)/python benchmarks/against_databroker.py

# Catalogs in a store on this machine that answers after 30 ms: about ten minutes, and 4 GB in the temporary directory.
bench-stores: $(VENV)/installed-test
	$(BIN)/python benchmarks/stores.py

# Proving catalogs, listing 100,000 runs, and imports: about ten minutes, and 3 GB in the temporary directory.
bench-moving: $(VENV)/installed-test $(DATABROKER_VENV)/installed
	$(BIN)/python benchmarks/moving.py
	DATABROKER_PYTHON=$(DATABROKER_VENV)/bin/python $(BIN)/python benchmarks/importing.py

# The tests of stores against Ceph, where radosgw, ceph-mon, ceph-osd and ceph-common are installed.
test-ceph: $(VENV)/installed-test
	$(BIN)/python tests/ceph.py tests/test_stores.py tests/test_store_losses.py

# Record the example catalog anew.
example: $(VENV)/installed-test
	$(BIN)/python sample_data/make_example.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# silx reads what is exported; of what it depends on, 186 MB are for other formats and not needed.
$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'silx>=2.1'
	touch $@ $(VENV)/installed

# databroker 1.2.5 imports pkg_resources, which setuptools has up to version 80.  suitcase-utils 0.5.4 closes files
# twice, at which databroker-pack fails.
$(DATABROKER_VENV)/installed: Makefile
	$(PYTHON) -m venv $(DATABROKER_VENV)
	$(DATABROKER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check databroker==1.2.5 \
		suitcase-msgpack 'setuptools<81' ophyd databroker-pack 'suitcase-utils<0.5.4'
	touch $@

clean:
	rm -rf $(VENV) $(DATABROKER_VENV) .venv-intake
