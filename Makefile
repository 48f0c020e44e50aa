# `make help` lists what there is. CPU by default; GPU=1 brings TensorFlow with CUDA.
SHELL := /bin/sh
BIN := .venv/bin
LOCK := requirements$(if $(GPU),-gpu).lock
INSTALLED := .venv/.installed$(if $(GPU),-gpu)
# uv, where there is one, installs in seconds what takes pip minutes. $(call install,PYTHON) is followed by what.
UV := $(shell command -v uv)
install = $(if $(UV),uv pip install --python $(1),$(1) -m pip install --disable-pip-version-check) --quiet --no-compile
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Tests side by side on all cores, but at most four: each process holds a TensorFlow.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Packages are installed uncompiled, and Python keeps what it compiles on import. With this variable, which many
# containers set, it would not: each process would compile TensorFlow again, which takes some 20 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help repro test test-slow test-nightly test-kill fuzz mutants coverage demo pull export formats gate gate-comment verify lineage audit bench bench-seeds generate docs check extras lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: $(INSTALLED) ## run what changed and show the results (GPU=1: with CUDA)
	@python -m reprocnn repro

test: $(INSTALLED) ## run the fast tests: no network, no data
	@python -m pytest $(SIDE_BY_SIDE) -m "not (slow or nightly or data or kill or fuzz)"

test-slow: $(INSTALLED) ## run the slow tests, and with DATASETS_MIRROR those on the real data
	@python -m pytest $(SIDE_BY_SIDE) -m "slow or data"

test-nightly: $(INSTALLED) ## run the tests that take minutes each: clusters, kills, whole trainings (an hour)
	@python -m pytest $(SIDE_BY_SIDE) -m nightly

test-kill: $(INSTALLED) ## kill the pipeline KILLS=30 times at random moments; SEED repeats a run
	@KILLS=$(or $(KILLS),30) KILL_SEED=$(or $(SEED),0) python -m pytest -m kill --capture=no

fuzz: $(INSTALLED) ## test with generated inputs (hypothesis) for SECONDS=600; SEED repeats a run
	@FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_SEED=$(or $(SEED),0) python -m pytest -m fuzz --capture=no

mutants: $(INSTALLED) ## plant known faults one at a time and list those that no test notices (AREA=numbers: one list)
	@python -m tests.support.mutants $(AREA)

coverage: $(INSTALLED) ## measure line coverage of the tests that CI and the nights run, including sub-processes: at least 95 %
	@$(call install,$(BIN)/python) 'coverage>=7.10'
	@coverage erase
	@coverage run -m pytest $(SIDE_BY_SIDE) -m "not (data or kill or fuzz)"
	@coverage combine --quiet && coverage report

demo: $(INSTALLED) ## run the pipeline on the embedded sample, in demo/
	@python -m reprocnn demo

pull: $(INSTALLED) ## fetch data and models from the default DVC remote
	@dvc remote default > /dev/null 2>&1 || { echo "error: this repository has no default DVC remote; run \`make repro\` to make data and models, or add a remote: docs/guides/sharing-results.md"; exit 1; }
	@dvc pull

export: $(INSTALLED) ## write the trained networks to export/, with a model card; FORMAT=keras|onnx|litert|openvino|saved_model, or several
	@python -m reprocnn export $(if $(FORMAT),--format $(FORMAT))

formats: $(INSTALLED) ## install what writes and opens ONNX, LiteRT and OpenVINO (340 MB)
	@python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	  print(*extras["onnx"], *extras["litert"], *extras["openvino"], sep="\n")' > .venv/formats.txt
	@$(call install,$(BIN)/python) --requirement .venv/formats.txt

# A branch's name may hold anything: it goes through the environment, and neither make nor the shell reads it as code.
unexport AGAINST ACCEPT FORMAT PR
export GATE_AGAINST := $(value AGAINST)
export GATE_ACCEPT := $(value ACCEPT)
export GATE_FORMAT := $(value FORMAT)
export GATE_PR := $(value PR)
GATE = set -f; set --; for name in $$GATE_ACCEPT; do set -- "$$@" "--accept=$$name"; done; \
  python -m reprocnn gate $${GATE_AGAINST:+"--against=$$GATE_AGAINST"} "$$@"

gate: $(INSTALLED) ## compare the results with their targets and with AGAINST=REV; ACCEPT=NAMES, FORMAT=text|json|markdown|junit
	@$(GATE) --format="$${GATE_FORMAT:-text}"

gate-comment: $(INSTALLED) ## write the gate's result as a comment on pull request PR=NUMBER; needs gh
	@mkdir -p runs
	@$(GATE) --format=markdown > runs/gate.md || true
	@gh pr comment "$$GATE_PR" --edit-last --create-if-none --body-file runs/gate.md

verify: $(INSTALLED) ## check in seconds that the results belong to this code (FULL=1: run everything again)
	@python -m benchmarks tables --check
	@python -m reprocnn verify $(if $(FULL),--full)

lineage: $(INSTALLED) ## compare dvc.yaml's deps with what each stage imports (FIX=1: edit them)
	@python -m reprocnn lineage $(if $(FIX),--fix)

audit: $(INSTALLED) ## find design flaws in the networks of both data sets
	@python -m reprocnn audit mnist_cnn cifar_cnn

bench-seeds: $(INSTALLED) ## train every setting with several seeds (eight hours)
	@python -m benchmarks seeds mnist 5
	@python -m benchmarks seeds mnist-fast 10
	@python -m benchmarks seeds mnist-tiny 3
	@for setting in cifar cifar-quick; do python -m benchmarks seeds $$setting 3 || exit 1; done
	@python -m benchmarks seeds cifar-94 5
	@python -m benchmarks seeds cifar-95 4
	@python -m benchmarks seeds cifar-plain 2

bench: $(INSTALLED) .venv-bench/.installed ## compare the settings with their peers (up to five hours, resumable; QUICK=1: MNIST, 15 minutes)
	@python -m benchmarks bench .venv-bench/bin/python $(if $(QUICK),--quick)
ifndef QUICK
	@python -m benchmarks step .venv-bench/bin/python
	@python -m benchmarks growth
	@python -m benchmarks overhead
endif

generate: $(INSTALLED) ## write what is generated in README and docs: tables, figures, reference
	@python -m benchmarks tables
	@python -m benchmarks figures
	@python -m docs.reference

docs: .venv-docs/.installed ## build the documentation as a site that works offline: site/index.html
	@rm -rf site
	@.venv-docs/bin/zensical build --clean --strict

check: $(INSTALLED) ## run the linters and check types and workflows
	@ruff check . && ruff format --check . && mypy
	@check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

extras: $(INSTALLED) ## check that pip can resolve the extras; installs nothing
	@python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed '.[train,audit,sweep,gpu,onnx,litert,openvino]'
	@echo "the extras train, audit, sweep, gpu, onnx, litert and openvino resolve"

lock: ## pin the newest versions of the dependencies
	@python -m pip install --quiet uv
	@for extra in "" gpu; do \
	  uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --extra train --extra audit --extra sweep --extra dev $${extra:+--extra $$extra} \
	    pyproject.toml --output-file requirements$${extra:+-$$extra}.lock || exit 1; \
	done

clean: ## remove leftovers; keeps data, models, results, checkpoints and environments
	@rm -rf demo export site .cache build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache
	@find reprocnn stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch is only for the benchmarks. PIP_EXTRA_INDEX_URL can name PyTorch's index of CPU builds, without gigabytes of CUDA.
.venv-bench/.installed: $(INSTALLED)
	@python -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy psutil
	@touch $@

# Apart from .venv, so that nobody needs it to run the pipeline. The extra alone: the site is built from the source.
.venv-docs/.installed: $(INSTALLED) pyproject.toml
	@python -m venv --clear .venv-docs
	@python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  > .venv-docs/requirements.txt
	@$(call install,.venv-docs/bin/python) --requirement .venv-docs/requirements.txt
	@touch $@

# Reinstalls only if pyproject.toml or the pins change.
$(INSTALLED): pyproject.toml $(LOCK)
	@test -d .git || test -f .git || { echo "error: this folder is not a git clone, which DVC needs: get it with git clone"; exit 1; }
	@if ! $(if $(UV),test -x $(BIN)/python,$(BIN)/python -m pip --version > /dev/null 2>&1); then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	    $$python -c '$(SUITABLE)' 2>/dev/null && break; python=; \
	  done; \
	  test -n "$$python" || { echo "error: no Python 3.11 to 3.13 found; install one, or name it: make PYTHON=/path/to/python"; exit 1; }; \
	  echo "making .venv with $$($$python --version)"; $$python -m venv .venv || exit 1; \
	fi
	@echo "installing $(LOCK)"
	@$(call install,$(BIN)/python) --require-hashes --requirement $(LOCK)
	@$(call install,$(BIN)/python) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m reprocnn vega
	@touch $@
