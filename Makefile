# `make help` lists what there is. CPU by default; GPU=1 brings TensorFlow with CUDA.
SHELL := /bin/sh
BIN := .venv/bin
LOCK := requirements$(if $(GPU),-gpu).lock
INSTALLED := .venv/.installed$(if $(GPU),-gpu)
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Tests side by side on all cores, but at most four: each process holds a TensorFlow.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help repro test test-slow test-data test-kill fuzz mutants coverage demo export gate gate-comment verify lineage audit audit-rules bench bench-seeds bench-sweep bench-waits bench-search bench-tried bench-insights bench-grudges readme check extras lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: $(INSTALLED) ## run what changed of the pipeline and show the results (GPU=1: with CUDA)
	@python -m reprocnn repro

test: $(INSTALLED) ## the fast tests: no network, no data
	@python -m pytest $(SIDE_BY_SIDE) -m "not data and not slow and not fuzz and not kill"

test-slow: $(INSTALLED) ## the slow tests: clusters, queued experiments, the built package
	@python -m pytest $(SIDE_BY_SIDE) -m slow

test-data: $(INSTALLED) ## the tests on the real data, which DATASETS_MIRROR names
	@python -m pytest -m data

test-kill: $(INSTALLED) ## kill the pipeline at random moments, KILLS=30 times; SEED repeats a run
	@KILLS=$(or $(KILLS),30) KILL_SEED=$(or $(SEED),0) python -m pytest -m kill --capture=no

fuzz: $(INSTALLED) ## generated inputs (hypothesis), for SECONDS=600; SEED repeats a run
	@FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_SEED=$(or $(SEED),0) python -m pytest -m fuzz --capture=no

mutants: $(INSTALLED) ## plant known faults one at a time and see which ones the tests miss (AREA=numbers: of one list)
	@python -m tests.support.mutants $(AREA)

coverage: $(INSTALLED) ## the lines that the fast and the slow tests run, sub-processes included: at least 95 %
	@python -m pip install --quiet --disable-pip-version-check 'coverage>=7.10'
	@coverage erase
	@coverage run -m pytest $(SIDE_BY_SIDE) -m "not data and not fuzz and not kill"
	@coverage combine --quiet && coverage report

demo: $(INSTALLED) ## the pipeline on the embedded sample, in demo/
	@python -m reprocnn demo

export: $(INSTALLED) ## write the trained networks as export/*.keras
	@python -m reprocnn export

gate: $(INSTALLED) ## judge the results against the targets and against AGAINST=REV; FORMAT=text|json|markdown
	@python -m reprocnn gate $(if $(AGAINST),--against '$(AGAINST)') $(if $(FORMAT),--format '$(FORMAT)')

gate-comment: $(INSTALLED) ## the same as a comment on pull request PR=NUMBER, updated in place; needs gh
	@mkdir -p runs
	@python -m reprocnn gate $(if $(AGAINST),--against '$(AGAINST)') --format markdown > runs/gate.md || true
	@gh pr comment '$(PR)' --edit-last --create-if-none --body-file runs/gate.md

verify: $(INSTALLED) ## check that the committed results are those of this code, in seconds (FULL=1: run all again)
	@python -m benchmarks tables --check
	@python -m reprocnn verify $(if $(FULL),--full)

lineage: $(INSTALLED) ## compare dvc.yaml's deps with what each stage imports (FIX=1: edit them)
	@python -m reprocnn lineage $(if $(FIX),--fix)

audit: $(INSTALLED) ## find design faults of the networks of both data sets
	@for network in mnist_cnn cifar_cnn; do python -m reprocnn audit $$network || exit $$?; done

audit-rules: $(INSTALLED) ## write docs/audit.md from the audit's rules
	@python -m reprocnn audit --rules > docs/audit.md

bench-seeds: $(INSTALLED) ## train with several seeds and write benchmarks/results/seeds.csv (three hours)
	@python -m benchmarks seeds mnist 5
	@python -m benchmarks seeds mnist-fast 10
	@for setting in cifar cifar-quick cifar-94; do python -m benchmarks seeds $$setting 3 || exit 1; done
	@python -m benchmarks seeds cifar-plain 1

bench: $(INSTALLED) .venv-bench/.installed ## measure all settings beside their peers (up to four hours, resumable; QUICK=1: MNIST, 15 minutes)
	@python -m benchmarks bench .venv-bench/bin/python $(if $(QUICK),--quick)
ifndef QUICK
	@python -m benchmarks step .venv-bench/bin/python
	@python -m benchmarks growth
	@python -m benchmarks overhead
endif

bench-sweep: $(INSTALLED) ## the cost of a sweep beside its trainings, and how it grows (20 minutes)
	@python -m benchmarks sweep

bench-waits: $(INSTALLED) ## the wait at the end of an epoch, fed with arrays and with batches (2 minutes)
	@python -m benchmarks waits

bench-search: $(INSTALLED) ## the effect of one change of the MNIST recipe each (60 minutes)
	@python -m benchmarks search

bench-tried: $(INSTALLED) ## the effect of one change of mnist-fast each on time and accuracy (4 minutes)
	@python -m benchmarks tried

bench-insights: $(INSTALLED) ## test the exercise's insights, five seeds each (45 minutes)
	@python -m benchmarks insights

bench-grudges: $(INSTALLED) ## train the warm-up network, fixed step by step (up to 60 minutes)
	@python -m benchmarks grudges

readme: $(INSTALLED) ## write the tables of README and guide, and the figures, from metrics/ and benchmarks/results/
	@python -m benchmarks tables
	@python -m benchmarks figures

check: $(INSTALLED) ## lint, types and workflows
	@ruff check . && ruff format --check . && mypy && check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

extras: $(INSTALLED) ## check that the extras for users resolve; installs nothing
	@python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed '.[train,audit,sweep,gpu]'
	@echo "the extras train, audit, sweep and gpu resolve"

lock: ## pin the newest versions of the dependencies
	@python -m pip install --quiet uv
	@for extra in "" gpu; do \
	  uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --extra train --extra audit --extra sweep --extra dev $${extra:+--extra $$extra} \
	    pyproject.toml --output-file requirements$${extra:+-$$extra}.lock || exit 1; \
	done

clean: ## remove leftovers of runs; not data, models, results or .venv
	@rm -rf demo export runs build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache
	@find reprocnn stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch is only for the benchmarks. PIP_EXTRA_INDEX_URL can name PyTorch's index of CPU builds, without gigabytes of CUDA.
.venv-bench/.installed: $(INSTALLED)
	@python -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy psutil
	@touch $@

# Again only when pyproject.toml or the pins change.
$(INSTALLED): pyproject.toml $(LOCK)
	@test -d .git || test -f .git || { echo "error: this folder is not a git clone, which DVC needs: get it with git clone"; exit 1; }
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	    $$python -c '$(SUITABLE)' 2>/dev/null && break; python=; \
	  done; \
	  test -n "$$python" || { echo "error: no Python 3.11 to 3.13 found; install one, or name it: make PYTHON=/path/to/python"; exit 1; }; \
	  echo "making .venv with $$($$python --version)"; $$python -m venv .venv || exit 1; \
	fi
	@echo "installing $(LOCK)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m reprocnn vega
	@touch $@
