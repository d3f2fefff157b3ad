# Two commands set up everything by themselves: `make demo` and `make test`.
# They need only Python 3.11 or newer (with venv); every download is checked against a locked hash.
PYTHON ?= python3
VENV   ?= .venv
READY  := $(VENV)/.ready
BENCH  := $(VENV)/.bench
DEPLOY := $(VENV)/.deploy

demo: $(READY) ## the whole journey on embedded defaults, in under a minute
	$(VENV)/bin/coldchain-server demo

test: $(READY) ## the test suite, a process for each core, each file's tests in one of them
	$(VENV)/bin/python -m pytest -q -m "not faults" -n auto --dist loadfile

check: test lint ## the test suite, ruff, mypy --strict and the import contracts

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

faults: $(READY) ## the long fault sweeps
	$(VENV)/bin/python -m pytest -q -m faults -s

bench: $(READY) $(BENCH) ## measure ourselves and our peers on the same work
	$(VENV)/bin/python -m benchmarks.run

$(READY): requirements.lock pyproject.toml client/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Coldchain needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(BENCH): benchmarks/requirements.lock $(READY)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock
	touch $@

$(DEPLOY): deploy/requirements.lock $(READY) ## the linter of the Containerfiles; its test skips without it
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r deploy/requirements.lock
	touch $@

pages: $(READY) ## man pages, completion, exit codes and schemas, after what a command says changed
	$(VENV)/bin/python -m deploy.make_man
	$(VENV)/bin/python -m deploy.make_completion
	$(VENV)/bin/python docs/make_exit_codes.py
	$(VENV)/bin/python docs/make_schemas.py

deb: $(READY) ## Debian packages for this machine's release, into dist/
	$(VENV)/bin/python -m deploy.make_deb --output dist

# Run by a person who changes a dependency; needs uv. --no-emit-index-url keeps the files free of hosts.
LOCK = uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 --quiet
lock:
	$(LOCK) pyproject.toml --group dev -o requirements.lock
	$(LOCK) client/pyproject.toml --extra agent --extra people -o client/requirements.lock
	$(LOCK) --group bench -c requirements.lock -o benchmarks/requirements.lock
	$(LOCK) pyproject.toml -c requirements.lock -o server/requirements.lock
	$(LOCK) --group build -c requirements.lock -o deploy/build-requirements.lock
	$(LOCK) --group deploy -c requirements.lock -o deploy/requirements.lock

clean:
	rm -rf $(VENV) demo-run dist

.PHONY: demo test check lint faults bench pages deb lock clean
