# Pitwatch. `make demo` and `make test` are all a newcomer needs; both install what they lack and say so.

CARGO ?= cargo
# The optional state engine is tested beside the default one.
FEATURES := --features pitwatch-collector/sled
PACKAGES := prometheus prometheus-node-exporter victoria-metrics strace iproute2 dbus e2fsprogs mount util-linux

.PHONY: help demo build test lint check deny mutants fuzz bench bench-peers packages

help: ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: ## this host, live: a collector and an agent, an alert that fires and resolves (DEMO_SECONDS=40 stops by itself)
	@start=$$(date +%s); $(CARGO) build --quiet --workspace --bins || exit 1; \
	took=$$(( $$(date +%s) - start )); echo "built in $$((took / 60)) m $$((took % 60)) s"
	@exec target/debug/pitwatch-demo

build: ## every program
	$(CARGO) build --workspace --bins

test: packages lint ## everything that CI runs
	$(CARGO) build --workspace --bins $(FEATURES)
	$(CARGO) test --workspace $(FEATURES)
	@echo "all passed"

lint: ## format, clippy and documentation, warnings refused
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

deny: ## licences, duplicate and banned crates; advisories where their database can be reached
	$(CARGO) deny check bans licenses sources

mutants: ## plants bugs in a copy and expects the simulation to catch each
	tests/mutants/run.sh

bench: PACKAGES := prometheus-node-exporter victoria-metrics collectd-core netdata-core
bench: packages ## figures of docs/benchmarks, on this machine
	$(CARGO) build --release --workspace --bins
	$(CARGO) build --release -p pitwatch-agent --example gather_cost
	tests/bench.sh

bench-peers: PACKAGES := victoria-metrics prometheus
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
