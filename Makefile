# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON chooses the interpreter (3.11 or newer) that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
JOBS ?= 2
# TYPES=1 also checks the annotations, shapes included, wherever a test calls: CI does.
CHECKED = $(if $(TYPES),--jaxtyping-packages jaxser$(COMMA)typechecking.checked)
COMMA := ,

# On Linux, large pages for large arrays: training spends up to a fifth of its time on page faults.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test test-long test-peers docs lint format constraints clean

demo: $(VENV)/.installed ## train a victim on synthetic speech, attack it, make the report page
	$(BIN)/python -m jaxser.train
	$(BIN)/python -m jaxser.sweep configs/sweeps/demo.yaml
	$(BIN)/python -m jaxser.report runs/sweep_demo --audio 1 --out runs/demo.html

test: lint ## ruff, type checker, import-linter, tests without torch
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(CHECKED)

test-long: $(VENV)/.test $(VENV)/.aot ## the long proofs: kills, many processes, Ray, every batch size, whole trainings
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'long and not peers'
	PYTHONPATH=$(VENV)/aot $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m long \
		tests/driver/test_compiled_programs.py

test-peers: $(VENV)/.peers ## tests against torch, torchattacks, Foolbox and ART
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m peers

docs: $(VENV)/.docs ## the manual, into build/site; warnings are errors
	PYTHONPATH=scripts $(BIN)/python -m mkdocs build --strict
	@echo "the manual is build/site/start.html"

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch is held at a release that has CPU builds for all; its CUDA packages are not pinned, as a
# CPU build has none and a CUDA build brings its own.
constraints: ## resolve constraints.txt anew (needs uv)
	echo 'torch==2.13.0' | uv pip compile pyproject.toml --constraint - --universal \
		--python-version 3.11 --extra test --extra peers --extra aot \
		--extra wandb --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links \
		| grep -v -E '^(nvidia-|cuda-|triton)' > constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.peers: $(VENV)/.test
	$(PIP) --editable '.[test,peers]'
	$(PIP) --no-deps 'torchattacks>=3.5.1'
	touch $@

# The compilers of the extra aot in a folder of their own: beside JAX, every process would look for
# the devices. Where they have no wheels, the tests that need them are skipped.
$(VENV)/.aot: $(VENV)/.installed
	-$(PIP) --no-deps --upgrade --target $(VENV)/aot $$($(BIN)/python -c "import tomllib; \
		print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['aot'])")
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache
