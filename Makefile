# Everything a newcomer needs: `make lab` shows a failover, `make test` runs all tests. Both set up what they need (as root,
# on Debian).

PYTHON = .venv/bin/python
WORKERS ?= 2
# They mostly wait, but they keep real-time deadlines: more would make them late.
LAB_WORKERS ?= 5
LAB_ARGS ?=
# One picture of the guides: firewall, standby, active-active, arp, physical, group.
SCENE ?=
SOAK_ARGS ?=
QUICK ?=
STABLE ?=
BENCH_ARGS ?=

.PHONY: setup lab test lint unit lab-test soak bench docs lock clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml tools/setup
	sh tools/setup
	touch $@

lab: setup
	$(PYTHON) -m lab $(if $(SCENE),--scene $(SCENE)) $(LAB_ARGS)

test: lint unit lab-test

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

unit: setup
	.venv/bin/pytest -n $(WORKERS) tests/unit tests/property

# These keep real-time deadlines, and a shared machine may stand still for longer than a peer waits: what failed is run once
# more by itself, and has to pass then.
lab-test: setup
	.venv/bin/pytest -n $(LAB_WORKERS) --dist worksteal tests/lab tests/interop || \
	    .venv/bin/pytest --last-failed --last-failed-no-failures none tests/lab tests/interop

# The long repetitions; they print their figures at the end. SOAK_ARGS="-k clean_stop" runs a part.
soak: setup
	.venv/bin/pytest -m soak tests/soak --timeout 3600 -s $(SOAK_ARGS)

# carpd beside ucarp and keepalived: below 30 minutes, as root. QUICK=1 shows in 3 that it runs; STABLE=600 watches stability for
# as long as its target says.
bench: setup
	command -v keepalived >/dev/null && command -v ucarp >/dev/null || \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ucarp keepalived; }
	$(PYTHON) -m bench $(if $(QUICK),--quick) $(if $(STABLE),--stable $(STABLE)) $(BENCH_ARGS)

docs: setup
	$(PYTHON) -m tools.state_machine

lock:
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
