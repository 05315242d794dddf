# Two targets for a new user: `make lab` and `make test`. Each sets up what it needs, and nothing outside .venv and apt.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
APT_LAB := python3-venv nftables unbound iproute2 util-linux
# Servers of the worlds that show DNS as it really is.
APT_DNS := nsd bind9 dnsmasq-base squid
# What reports and schedules meet: a browser, a service manager, cron, a syslog daemon, Prometheus' own checker.
APT_AROUND := chromium systemd cron rsyslog prometheus
APT_TEST := $(APT_LAB) $(APT_DNS) $(APT_AROUND) nmap
# Sandboxes that the agent is shipped into, and what srt needs. Not every distribution has the last ones: without them
# their tests are skipped, and say so.
APT_SANDBOXES := bubblewrap podman runc socat ripgrep
APT_MORE := firejail runsc docker.io
NPM := @anthropic-ai/sandbox-runtime@0.0.78 @openai/codex@0.169.0 axe-core@4.14.1
SANDBOX_PARTS := bubblewrap,srt,podman
# The real parts that a test run must have used; the run fails if one of them did not pass a single test.
REAL_PARTS := namespaces,nftables,unbound,bind,dnsmasq,nsd,squid,collector,rootless,seccomp,landlock,cgroup-bpf
# … by the tests outside of the lab
CORE_PARTS := nftables,namespaces
# … by those that mostly wait: for silence, for launchers, for servers
WAITING := tests/techniques tests/collector tests/shipping tests/test_run.py tests/test_agent.py tests/test_engine.py
WAITING_PARTS := nftables,unbound,seccomp
# … by those that meet what reports and schedules meet
AROUND := tests/alerts tests/units tests/canary/test_faults.py tests/canary/test_telling.py tests/canary/test_drift_worlds.py tests/canary/test_watching.py tests/reports/test_html_browser.py tests/test_metrics.py
AROUND_PARTS := namespaces,nftables,chromium,systemd,cron,rsyslog,promtool
BENCHMARK_PARTS := nmap

SAFELY = EGRESS_PROBE_FORBID_NETNS="$$(readlink /proc/self/ns/net)" tests/without-uplink
# What the contract calls the core: decided without I/O, tested in every branch.
CORE := probe/plan.py,probe/orders.py,probe/destinations.py,probe/classify.py,probe/kinds.py,probe/paths.py,probe/signs.py,probe/verdicts.py,probe/knowledge.py,probe/support.py,probe/judge.py,probe/farend.py,probe/arrived.py,probe/trust.py,probe/receipts.py,probe/conditions/*,probe/damping.py,probe/drift/*,probe/policies/*

.PHONY: lab test lint unit schema accuracy sandboxes fuzz clean
.DELETE_ON_ERROR:

# The main job in the embedded lab: one policy that holds, one that leaks.
lab: $(VENV)/.run .apt-lab
	$(BIN)/egress-probe lab no-network open

# Everything that CI runs.
test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The lab, the sandboxes and what waits for servers run beside everything else; benchmarks run by themselves, and measuring coverage costs CPU.
# In a network namespace without an uplink, with the machine's own namespace under the latch: nothing can leave.
unit: $(VENV)/.dev .apt-test .apt-sandboxes $(VENV)/.npm
	$(MAKE) --no-print-directory -j5 --output-sync=target .worlds .core .waiting .around .sandboxes
	$(SAFELY) $(BIN)/pytest tests/benchmarks --real-parts=$(BENCHMARK_PARTS)

.PHONY: .core .waiting .around .worlds .sandboxes
# The core has every branch tested.
.core:
	$(SAFELY) $(BIN)/pytest --ignore=tests/benchmarks --ignore=tests/lab --ignore=tests/sandboxes $(WAITING:%=--ignore=%) $(AROUND:%=--ignore=%) --real-parts=$(CORE_PARTS) --cov --cov-report= $(PYTEST)
	$(BIN)/coverage report --include='$(CORE)' \
	  --fail-under=100 --show-missing --skip-covered
.waiting:
	$(SAFELY) $(BIN)/pytest $(WAITING) --real-parts=$(WAITING_PARTS)
.around:
	$(SAFELY) $(BIN)/pytest $(AROUND) --real-parts=$(AROUND_PARTS)
.worlds:
	$(SAFELY) $(BIN)/pytest tests/lab --real-parts=$(REAL_PARTS)

# Real launchers: bubblewrap, srt, podman and what else is here.
.sandboxes:
	$(SAFELY) $(BIN)/pytest tests/sandboxes --real-parts=$(SANDBOX_PARTS)

# The JSON Schemas of the report and of an alert, from the code.
schema: $(VENV)/.dev
	$(BIN)/python -m tests.make_schema report > docs/report.schema.json
	$(BIN)/python -m tests.make_schema alert > docs/alert.schema.json

# What is told of each way to enforce, from a real run of one lab world each (about two minutes; as root).
accuracy: $(VENV)/.dev .apt-lab
	$(SAFELY) $(BIN)/python -m tests.make_accuracy > docs/accuracy.md

# What the inside of each sandbox sees, from a real run of every launcher that is here (as root).
sandboxes: $(VENV)/.dev .apt-test .apt-sandboxes $(VENV)/.npm
	$(SAFELY) $(BIN)/python -m tests.make_sandboxes > docs/sandboxes.md.new
	mv docs/sandboxes.md.new docs/sandboxes.md

# Malformed messages for the collector's parsers, for MINUTES (with atheris as well, where it is installed).
MINUTES ?= 10
fuzz: $(VENV)/.dev
	$(SAFELY) $(BIN)/python -m tests.collector.fuzz_collector $(MINUTES)

clean:
	rm -rf $(VENV) out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage

$(VENV)/.run: pyproject.toml | .apt-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml | .apt-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.run

# srt, Codex and axe (which looks for what a page keeps from people), in the venv's folder. Without npm Debian's is installed.
$(VENV)/.npm: Makefile | $(VENV)/.dev
	@command -v npm >/dev/null 2>&1 || tests/apt-install nodejs npm
	npm install --silent --no-fund --no-audit --prefix $(VENV)/npm $(NPM)
	touch $@

.PHONY: .apt-venv .apt-lab .apt-test .apt-sandboxes
.apt-venv:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/apt-install python3-venv
.apt-lab:
	@tests/apt-install $(APT_LAB)
.apt-test:
	@tests/apt-install $(APT_TEST)
.apt-sandboxes:
	@tests/apt-install $(APT_SANDBOXES)
	@for package in $(APT_MORE); do tests/apt-install $$package || echo "$$package cannot be installed here: its tests are skipped" >&2; done
