# Two commands on a fresh machine: `make run` and `make test`. Both do all set-up by themselves.
# Set-up is repeated only when requirements.lock or pyproject.toml change, and needs no network otherwise.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Extra words for the program behind a target: make run ARGS="--events 100000", make test ARGS="-k policy".
ARGS  ?=
# The lake of the targets that read one, and where the SQL server listens.
LAKE  ?= lake
PORT  ?= 10000

# Quiet packages: no version check of pip itself, no questions.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help
help: ## Show this list
	@echo "Stitchlake: raw events in, one profile per person out."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) jars ## Install everything: environment, packages, jars (3 minutes the first time)

.PHONY: jars
jars: $(STAMP) ## Fetch Spark's jars, once
	@$(PY) -m pipelines.runtime.jars

.PHONY: run
run: setup ## Run the whole pipeline on generated events and show what it found
	@$(PY) -m pipelines.apps.demo $(ARGS)

.PHONY: kafka
kafka: setup ## Start a Kafka broker to try things with; Ctrl-C stops it
	@$(PY) -m pipelines.stream.kafka.broker $(ARGS)

.PHONY: test
test: setup ## Run the test suite, all but the slow tests, a file at a time on each of two workers, quick files first
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

.PHONY: test-fast
test-fast: $(STAMP) ## Run the tests that need no JVM, in seconds
	@STITCHLAKE_QUICK_TESTS=1 $(PY) -m pytest -n auto -m "not spark and not slow and not thorough" $(ARGS)

.PHONY: test-random
test-random: setup ## Look for examples that break a property, other ones in every run; prints its seed (minutes)
	@STITCHLAKE_RANDOM_TESTS=1 $(PY) -m pytest -n 2 -m "hypothesis and not spark and not slow" $(ARGS)

.PHONY: test-slow
test-slow: setup ## Run the slow tests
	@$(PY) -m pytest -m slow $(ARGS)

.PHONY: test-faults
test-faults: setup ## Kill it everywhere and compare with a clean run: the whole fault list (an hour)
	@$(PY) -m tests.faults $(ARGS)

.PHONY: test-faults-quick
test-faults-quick: setup ## A selection of the fault list, two real kills among them (minutes)
	@$(PY) -m tests.faults --quick $(ARGS)

# The core tests with executors in processes of their own, Spark writers and look-ups in the tables. A batch costs
# seconds there, so the hundred batches stay with `make test`.
CORE := stream/batch/test_stream stream/test_cluster state/test_spark_lookup runtime/test_graph_engine lake/test_writers \
  lake/test_compaction lake/test_snapshot
.PHONY: test-cluster
test-cluster: setup ## Run the core tests on a small cluster of processes (20 minutes)
	@STITCHLAKE_TEST_MASTER='local-cluster[2,1,1024]' STITCHLAKE_TEST_ENV=cluster $(PY) -m pytest \
	  -m "not slow" $(CORE:%=tests/pipelines/%.py) $(ARGS)

.PHONY: accuracy
accuracy: setup ## Hold people against the generator's truth, beside three simpler ways
	@$(PY) -m benchmarks.accuracy.truth $(ARGS)

.PHONY: trust
trust: setup ## Shared devices and junk ids: precision, recall, and how often identifiers change hands
	@$(PY) -m benchmarks.accuracy.trust $(ARGS)

.PHONY: resolve-large
resolve-large: setup ## Time `stitchlake resolve` on 50,000 records with 200,000 identifiers
	@$(PY) -m benchmarks.resolve_large $(ARGS)

.PHONY: bench
bench: setup ## Measure everything, beside what others do; all targets, those of the largest size from the record (45 minutes)
	@$(PY) -m benchmarks $(ARGS)

.PHONY: bench-quick
bench-quick: setup ## The same at tiny size: does the harness work, and is what it measures right (minutes)
	@$(PY) -m benchmarks --scale quick $(ARGS)

.PHONY: bench-large
bench-large: setup ## What the largest targets ask: ten million nodes, a thousand batches (an hour)
	@$(PY) -m benchmarks --scale large $(ARGS)

.PHONY: bench-keep
bench-keep: $(STAMP) ## Put what bench-large has found on the record that is in git, for `make bench` to print
	@$(PY) -m benchmarks.report.keep_large

.PHONY: soak
soak: setup ## 500 batches with upkeep beside them: does memory, a count of files or a batch's time grow?
	@$(PY) -m benchmarks.soak $(ARGS)

.PHONY: drill
drill: setup ## Destroy a loaded lake and restore it: how much is lost, and for how long
	@$(PY) -m benchmarks.drill $(ARGS)

.PHONY: wheel
wheel: $(STAMP) ## Build dist/stitchlake-*.whl: code, SQL and YAML, for spark-submit and Databricks
	@rm -rf build dist/stitchlake-*.whl
	@$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist .
	@ls dist/stitchlake-*.whl

.PHONY: thrift
thrift: setup ## Serve a lake's tables to BI tools: make thrift LAKE=lake PORT=10000
	@$(PY) -m pipelines.apps.thrift --lake $(LAKE) --port $(PORT) $(ARGS)

.PHONY: notebooks
notebooks: setup ## Run the notebooks on a lake: make notebooks LAKE=lake
	@$(PY) -m pipelines.apps.notebooks --lake $(LAKE) $(ARGS)

.PHONY: table-reference
table-reference: $(STAMP) ## Write docs/tables.md anew from the declarations in conf/tables
	@$(PY) -m pipelines.apps.table_reference > docs/tables.md

.PHONY: lint
lint: $(STAMP) ## Check style, format, types and the direction of imports
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

.PHONY: format
format: $(STAMP) ## Format the code and repair what can be repaired
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

.PHONY: lock
lock: ## Resolve pyproject.toml anew into requirements.lock
	@set -e; $(find-python); work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	"$$python" -m venv "$$work/venv"; \
	"$$python" -c "$$DIRECT" > "$$work/direct"; \
	"$$work/venv/bin/python" -m pip install --quiet -r "$$work/direct"; \
	{ grep '^#' requirements.lock; \
	  "$$work/venv/bin/python" -m pip freeze --all | grep -viE '^(pip|wheel)=='; } > "$$work/lock"; \
	cp "$$work/lock" requirements.lock; \
	echo "requirements.lock: $$(grep -c == requirements.lock) packages"

# What pyproject.toml names, one requirement a line.
define DIRECT
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(sum(project["optional-dependencies"].values(), project["dependencies"])))
endef
export DIRECT

.PHONY: clean
clean: ## Remove caches and what runs leave behind; keeps the environment, the jars and lakes
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	@rm -rf spark-warehouse metastore_db derby.log
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-all
clean-all: clean ## Remove the environment and the jars too; keeps lakes
	@rm -rf $(VENV) .jars

# The first Python on PATH that fits; a name on PATH may be a switch that leads nowhere, so each one is run.
define find-python
python= && for name in python3.11 python3.12 python3 python; do \
  if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; \
  then python=$$name; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "Stitchlake needs Python 3.11 or 3.12, and none of python3.11, python3.12, python3 is one." >&2; \
  echo "  Debian, Ubuntu   sudo apt-get install python3.11 python3.11-venv   (or 3.12)" >&2; \
  echo "  Fedora           sudo dnf install python3.11" >&2; \
  echo "  macOS            brew install python@3.11" >&2; \
  exit 1; \
fi
endef

$(STAMP): requirements.lock pyproject.toml
	@set -e; $(find-python); \
	"$$python" -m pipelines.runtime.java; \
	if ! $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; then \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) || { \
	    echo "The environment could not be made. On Debian and Ubuntu: sudo apt-get install $$("$$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')-venv" >&2; \
	    rm -rf $(VENV); exit 1; }; \
	fi; \
	echo "Installing $$(grep -c == requirements.lock) packages into $(VENV) …"; \
	$(PY) -m pip install --quiet -r requirements.lock && \
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e . && \
	touch $@
