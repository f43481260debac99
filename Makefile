# make run and make test are the only two commands a new user needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

SECONDS ?= 60

# Tests start hundreds of processes from the same sources: each is compiled once, out of the way.
test browser verify: export PYTHONDONTWRITEBYTECODE :=
test browser verify: export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.PHONY: setup espeak run dev doctor test browser verify fuzz simulate trials lock clean

setup: $(STAMP)

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "voice gateway needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	@echo "Installing the locked dependencies into $(VENV) (once, about 350 MB) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

espeak: setup ## Russian and Arabic voices (espeak-ng, GPL-3)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-espeak.lock

run: setup
	@exec $(BIN)/python -m supervisor $(ARGS)

dev: setup
	@exec $(BIN)/python -m supervisor.dev $(ARGS)

doctor: setup ## why does a first caller hear nothing? ARGS='--url http://127.0.0.1:4000'
	@$(BIN)/python -m gateway.doctor $(ARGS)

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy supervisor audio gateway loadtest tests
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile --ignore tests/integration --ignore tests/browser $(ARGS)
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist worksteal tests/integration $(ARGS) # whole gateways

browser: setup ## the page in a real Chromium (skipped where there is none); SCREENSHOTS=docs keeps its pictures
	$(BIN)/python -m pytest -m slow tests/browser --timeout 600 $(ARGS)

verify: setup test browser
	HYPOTHESIS_PROFILE=verify $(BIN)/python -m pytest -m "not slow" tests/audio tests/gateway/wire tests/gateway/playout tests/gateway/test_channel.py tests/supervisor/test_policy.py -n 3 --timeout 600
	$(BIN)/python -m pytest -m slow --ignore tests/browser --timeout 600 $(ARGS)

simulate: setup ## whole calls on a virtual clock: SEEDS=1000 of them, or the one of SEED=
	$(if $(SEED),SEED=$(SEED)) $(if $(SEEDS),SEEDS=$(SEEDS)) $(BIN)/python -m pytest tests/simulation --timeout 3600 $(ARGS)

trials: setup ## turn-taking with real voices on a virtual clock: prints its figures
	$(BIN)/python -m pytest -s -m slow tests/simulation --timeout 1200 $(ARGS)

fuzz: setup ## make fuzz SECONDS=60 [ARGS='--seed 1']: broken messages and requests, from a seed
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

lock: ## after a change of dependencies; needs uv
	uv pip compile pyproject.toml --extra local --extra dev --universal --generate-hashes \
		--no-header --no-annotate --no-strip-extras -q -o requirements.lock
	uv pip compile pyproject.toml --extra local --universal --generate-hashes \
		--no-header --no-annotate --no-strip-extras -q -c requirements.lock -o requirements-run.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
