# make app · make test · make check · make bench · make evidence
PYTHON ?= python3
HOST ?= localhost
PORT ?= 8501
# HOST=0.0.0.0 TLS=1 serves the network over https, so that a phone can be the microphone
TLS ?=
# TORCH=cpu takes torch and torchaudio without CUDA (1 GB instead of 5)
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraint constraints.txt $(if $(TORCH),--torch-backend $(TORCH))
CODE := refine pages app.py tests benchmarks tools

SPEED := embeddings isotropy synthesis streaming classes_scale browser precision live
METHODS := rewire rewire_downstream dino two_step interventional base_size

.PHONY: app test check format bench evidence screenshots clean

app: $(VENV)/.app  ## install what is missing and open the dashboard
	@exec $(BIN)/python -m refine app --host $(HOST) --port $(PORT) $(if $(TLS),--tls)

test: $(VENV)/.test $(VENV)/.system  ## unit, page and browser tests
	$(BIN)/python -m pytest

check: $(VENV)/.test  ## format, lint, types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/.test $(VENV)/.system  ## speed and memory, side by side; about 15 minutes
	@for name in $(SPEED); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

evidence: $(VENV)/.test  ## the papers' protocols, tables into docs/measured; hours
	@for name in $(METHODS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

screenshots: $(VENV)/.test $(VENV)/.system  ## every page, light and dark, into docs/screenshots
	$(BIN)/python tools/screenshots.py docs/screenshots

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"refine needs Python 3.11 or newer; this is {v.major}.{v.minor}. Try: make app PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing refine and what it needs (5 GB with the usual torch builds; TORCH=cpu takes 1 GB)"
	$(PIP) --editable '.[synthesis]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing refine with its test and development extras"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.app

$(VENV)/.system: tools/system_packages.sh | $(VENV)/bin/python
	bash tools/system_packages.sh
	@touch $@
