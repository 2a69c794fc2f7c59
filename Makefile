# Pitwatch. `make demo` and `make test` are all a newcomer needs; both install what they lack and say so.

CARGO ?= cargo
# The optional state engine is tested beside the default one.
FEATURES := --features pitwatch-collector/sled
# The web interface: its sources, and what the collector's build takes in.
UI := collector/ui
UI_SOURCES := $(shell git ls-files $(UI) 2>/dev/null || find $(UI)/src -type f)
PACKAGES := chromium fonts-dejavu-core prometheus prometheus-alertmanager prometheus-node-exporter victoria-metrics strace iproute2 \
	python3-venv python3-aiosmtpd dbus e2fsprogs xfsprogs btrfs-progs mount util-linux
# From PyPI, into target/.
SCHEMATHESIS := schemathesis==4.32.5

.PHONY: help demo build pages ui ui-check ui-test screens ui-figures node test lint check deny mutants fuzz bench bench-peers packages \
	schemathesis

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: ui ## this host, live: a collector and an agent, an alert that fires and resolves (DEMO_SECONDS=40 stops by itself)
	@start=$$(date +%s); $(CARGO) build --quiet --workspace --bins || exit 1; \
	took=$$(( $$(date +%s) - start )); echo "built in $$((took / 60)) m $$((took % 60)) s"
	@exec target/debug/pitwatch-demo

build: ui ## every program
	$(CARGO) build --workspace --bins

# Most tests wait for real programs and their clocks.
test: export RUST_TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))
test: packages schemathesis ui ui-check lint ## everything that CI runs
	$(CARGO) build --workspace --bins $(FEATURES)
	$(CARGO) test --workspace $(FEATURES)
	$(MAKE) --no-print-directory ui-test
	@echo "all passed"

pages: ## manual pages and completions of every program, below target/share as they stand below /usr/share
	$(CARGO) run --quiet -p pitwatch-tests --bin pitwatch-pages -- target/share

ui: $(UI)/dist/index.html ## the web interface; the next build of the collector has it in it

$(UI)/dist/index.html: $(filter-out $(UI)/dist/%,$(UI_SOURCES)) | node
	@cd $(UI) && npm ci --silent --no-audit --no-fund && npm run --silent build

ui-check: ui ## types and unit tests of the web interface
	@cd $(UI) && npm run --silent check && npm run --silent test

# UI_HOSTS sets the size of the fleet (1000 wants more of two cores than CI has to spare), UI_PROFILE=release takes programs of
# `cargo build --release`.
ui-test: export UI_HOSTS ?= 200
ui-test: packages node ## the web interface in a real browser, against a real collector
	@cd tests/ui && npm ci --silent --no-audit --no-fund && npm test --silent

screens: ui node ## pictures of the README, from a running collector
	$(CARGO) build --workspace --bins
	@cd tests/ui && npm ci --silent --no-audit --no-fund && node screens.mjs ../../docs/screens --readme

ui-figures: ui packages node ## how fast the web interface is (docs/benchmarks/web.md)
	$(CARGO) build --release --workspace --bins
	@cd tests/ui && npm ci --silent --no-audit --no-fund && UI_PROFILE=release node figures.mjs

# Node 18 or newer; Debian's own will do.
node:
	@if ! command -v npm >/dev/null; then \
	  echo "installing Debian packages that the web interface is built with: nodejs npm"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; fi

lint: ## format, clippy and documentation, warnings refused
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

deny: ## licences, duplicate and banned crates; advisories where their database can be reached
	$(CARGO) deny check bans licenses sources

fuzz: ## every fuzz target for a minute (PITWATCH_FUZZ_SECONDS=3600 for an hour); tests/fuzz/README.md
	tests/fuzz/run.sh

mutants: ## plants bugs in a copy and expects the simulation to catch each
	tests/mutants/run.sh

bench: PACKAGES := prometheus-node-exporter victoria-metrics collectd-core netdata-core
bench: packages ## figures of docs/benchmarks, on this machine
	$(CARGO) build --release --workspace --bins
	$(CARGO) build --release -p pitwatch-agent --example gather_cost
	tests/bench.sh

bench-peers: PACKAGES := victoria-metrics prometheus prometheus-alertmanager
bench-peers: packages ## side by side with VictoriaMetrics and Prometheus (REPLAY=recording.txt.zst; PEERS='--parts store' for less)
	$(CARGO) build --release --workspace --bins
	target/release/pitwatch-peers $(PEERS)

packages:
	@missing=; for package in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages that the tests need:$$missing"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

schemathesis: packages
	@if ! target/schemathesis/bin/pip freeze 2>/dev/null | grep -qx '$(SCHEMATHESIS)'; then \
	  echo "installing $(SCHEMATHESIS) from PyPI into target/schemathesis"; \
	  mkdir -p target && /usr/bin/python3 -m venv target/schemathesis && \
	  target/schemathesis/bin/pip install --quiet --disable-pip-version-check $(SCHEMATHESIS); fi
