# Every command below sets up what it needs: a virtual environment in $(VENV) with the versions of constraints.txt.
# The first run takes a minute or two (it downloads PyTorch), later runs start at once. A run that failed can be repeated.
#
#   make generate PROMPT="a red circle moves to the right"    text to video, into outputs/
#   make demo                                                 a web page with an endless video, http://127.0.0.1:7860
#   make evaluation-weights                                   the network of FVD, 47 MB, into the cache
#   make docs                                                 the documentation as a site, into site/
#   make test                                                 the test suite
#   make test-fast                                            models, schedulers, pipelines and other units only
#   make test-lowest                                          the test suite with the oldest versions that setup.cfg allows
#   make style                                                format and fix the code
#   make quality                                              check the code without changing it

PYTHON ?= python3
VENV ?= .venv
VENV_LOWEST ?= .venv-lowest

PROMPT ?= a red circle moves to the right
SEED ?= 0
OUTPUT_DIR ?= outputs
GENERATE_ARGS ?=
DEMO_ARGS ?=

WORKERS ?= 2
TESTS ?= tests
FAST_TESTS = tests/models tests/schedulers tests/pipelines tests/utils tests/docs tests/test_architecture.py \
	--ignore tests/utils/test_command_line.py  # which starts every script

# Handed to the shell by the environment, so that quotes in a prompt stay what they are.
export PROMPT

.PHONY: generate demo evaluation-weights docs test test-fast test-lowest style quality
.NOTPARALLEL:

generate: $(VENV)/.installed
	@$(VENV)/bin/python examples/inference/text_to_video.py \
		--prompt "$$PROMPT" --seed $(SEED) --output_dir "$(OUTPUT_DIR)" $(GENERATE_ARGS)

demo: $(VENV)/.installed-demo
	@$(VENV)/bin/python examples/demo/app.py $(DEMO_ARGS)

evaluation-weights: $(VENV)/.installed
	@$(VENV)/bin/python -m videoar_pipelines.evaluation.weights

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) -q $(TESTS)

test-fast: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) -q -m "not slow and not gpu" $(FAST_TESTS)

test-lowest: $(VENV_LOWEST)/.installed
	OMP_NUM_THREADS=1 $(VENV_LOWEST)/bin/python -m pytest -n $(WORKERS) -q $(TESTS)

style: $(VENV)/.installed-quality
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

quality: $(VENV)/.installed-quality
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# uv, where there is one, is faster than pip; it has to be told where pip looks for wheels, and to compile bytecode as pip
# does, which makes `import diffusers` two to three times faster.
define install
	@if command -v uv >/dev/null; then \
		UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" \
			uv pip install --python $(VENV)/bin/python --compile-bytecode -c constraints.txt $(1); \
	else \
		$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt $(1); \
	fi
	@touch $@
endef

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: '$(PYTHON)' is not Python 3.11 or newer. Install one and name it: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@if [ -n "$$(ls -A $(VENV) 2>/dev/null)" ] && [ ! -e $(VENV)/.begun ]; then \
		echo "error: $(VENV) was not made by make. Remove it, or name another place: make VENV=.venv-videoar ..." >&2; \
		exit 1; fi
	@echo "Creating the environment in $(VENV) (once) ..."
	@mkdir -p $(VENV) && touch $(VENV)/.begun && find $(VENV)/ -mindepth 1 ! -name .begun -delete
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created setup.cfg pyproject.toml constraints.txt
	$(call install,-e .)

$(VENV)/.installed-demo: $(VENV)/.installed
	$(call install,-e ".[demo]")

$(VENV)/.installed-docs: $(VENV)/.installed
	$(call install,-e ".[docs]")

$(VENV)/.installed-test: $(VENV)/.installed
	$(call install,-e ".[test]")

$(VENV)/.installed-quality: $(VENV)/.created constraints.txt
	$(call install,ruff)

# pip cannot choose the lowest versions, uv can; of what is installed already it keeps newer ones, so the environment is made anew.
$(VENV_LOWEST)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -m venv --clear $(VENV_LOWEST)
	@$(VENV_LOWEST)/bin/python -m pip install -qq --disable-pip-version-check uv
	@$(VENV_LOWEST)/bin/uv pip install --python $(VENV_LOWEST)/bin/python --resolution lowest-direct -e ".[test]"
	@touch $@
