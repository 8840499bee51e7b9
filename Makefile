# wsguard: every command works on a fresh machine with Rust, Python 3, Node and a C compiler.
#   make demo      attack a chat, with a policy and without      make test     every test of every language
#   make demo NODES=2   one chat on two processes                make cluster  nodes on Redis, with faults
#   make ready     what CI runs                                  make hosts    the test hosts (docs/HOST.md)
#   make bench     side by side (QUICK=1: shorter)               make autobahn the Autobahn suite (FAST=1: shorter)
#   make fuzz      fuzz targets (SECONDS=60 each)                make removals each check removed must be noticed
#   make soak      all attacks at once (MINUTES=30 on each host; HOSTS=rust,c SEED=N)
#   make audit     what servers of other libraries, and ours, let through
#   make fmt       format everything                             make install  the C face (PREFIX=/usr/local)
#   make simulate  a cluster on fake time, and its scripts on a real Redis (NODES=1000 USERS=1000000 SEED=1)
#   make dist      every package that a release uploads, into dist/      make dist-test   install and try each
#   make docs-site the documentation as a site: target/docs-site/html/index.html
#   make chaos     random acts of peers and application (CHAOS_SECONDS=60)

.DEFAULT_GOAL := help
SECONDS ?= 60
MINUTES ?= 30
PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
# cargo with a line every 15 s where there is no terminal for its own bar: BUILDING what cargo build …
BUILDING := python3 tests/building.py

.PHONY: help demo test ready structure options feature-set hosts bench autobahn fuzz fmt fmt-check lint docs docs-site unit simulate scenarios faults soak proxy cluster browser \
        demo-test packages openmetrics removals removals-check chaos abi sanitize install python node client moving moving-node moving-python dist dist-check dist-test audit audit-peers audit-doc

help:
	@sed -n 's/^#   //p' Makefile

demo:
	@echo "1/2 Building the demo: a minute or two the first time (on two cores), then seconds."
	@$(BUILDING) "the demo" cargo build --locked --profile demo --no-default-features -p wsguard-demo
	@echo "2/2 Starting it; it prints the address of its page."
	$(TARGET)/demo/wsguard-demo $(if $(NODES),--nodes $(NODES))

# --- tests --------------------------------------------------------------------------------------------------------

# Every part; one alone is `make scenarios`, `make python` and so on (tests/README.md says what each proves).
test:
	python3 tests/all.py

unit:
	@$(BUILDING) "the tests" cargo test --workspace --locked --no-run
	cargo test --workspace --locked --quiet

# Random acts of peers and of the application, longer than in `make unit` (CHAOS_SECONDS=3600 for an hour).
CHAOS_SECONDS ?= 60
chaos:
	WSGUARD_CHAOS_SECONDS=$(CHAOS_SECONDS) cargo test --locked --quiet -p wsguard --test chaos -- --nocapture

# What nodes note on Redis beside a model of it, then many nodes over that model on fake time.
simulate:
	tests/packages.sh redis-server
	cargo test --locked --quiet -p wsguard-simulate --test store -- --ignored
	cargo run --release --locked --quiet -p wsguard-simulate -- \
	    $(if $(NODES),--nodes $(NODES)) $(if $(USERS),--users $(USERS)) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

hosts:
	@$(BUILDING) "the hosts of Rust and C" cargo build --release --locked -p wsguard-host-rust -p wsguard-ffi
	cp --remove-destination $(TARGET)/release/wsguard-host tests/hosts/rust/wsguard-host
	$(CC) -std=c11 -O2 -Wall -Wextra -Werror -Iinclude tests/hosts/c/main.c $(TARGET)/release/libwsguard_ffi.a \
	    -lpthread -ldl -lm -o tests/hosts/c/wsguard-host.new
	mv -f tests/hosts/c/wsguard-host.new tests/hosts/c/wsguard-host
	CARGO_TARGET_DIR=$(abspath $(TARGET)) bindings-node/build.sh --addon-only
	CARGO_TARGET_DIR=$(abspath $(TARGET)) bindings-python/build.sh

scenarios: hosts
	cargo run --locked --quiet -p wsguard-runner

faults: hosts packages
	cargo run --locked --quiet -p wsguard-faults --bin wsguard-faults

# MINUTES of everything at once on each host, one after another; SEED repeats what an earlier run threw.
soak: hosts
	tests/packages.sh redis-server
	cargo run --locked --quiet -p wsguard-faults --bin wsguard-soak -- --minutes $(MINUTES) \
	    $(if $(HOSTS),--hosts $(HOSTS)) $(if $(SEED),--seed $(SEED))

# The metrics of a running server, read by the parser of Prometheus' own Python client.
openmetrics:
	CARGO_TARGET_DIR=$(abspath $(TARGET)) tests/openmetrics/run.sh

proxy: hosts packages
	cargo run --locked --quiet -p wsguard-proxy-test
	cargo test --locked --quiet -p wsguard-cli --test doctor -- --include-ignored

# Nodes of different languages on real Redis servers, Sentinels and Clusters, with faults between them.
cluster: hosts packages
	cd examples/cluster && npm ci --ignore-scripts --silent --no-audit --no-fund
	cargo run --locked --quiet -p wsguard-cluster-test

browser: hosts packages
	cd tests/browser && npm ci --silent --no-audit --no-fund && npm test

demo-test: packages
	@$(BUILDING) "the demo" cargo build --locked -p wsguard-demo
	cd demo/test && npm ci --silent --no-audit --no-fund && WSGUARD_DEMO=$(abspath $(TARGET))/debug/wsguard-demo npm test

# The C ABI, and what `make install` gives to pkg-config and CMake.
abi: hosts packages
	TARGET=$(abspath $(TARGET)) tests/abi/run.sh
	TARGET=$(abspath $(TARGET)) tests/abi/install.sh

# What is Python's own: types, idioms on asyncio and uvloop, examples, the wheel in clean environments.
python: hosts
	CARGO_TARGET_DIR=$(abspath $(TARGET)) bindings-python/test.sh

# What is Node's own: typings, promises, attach, workers, the package in a clean folder, examples.
node: hosts
	CARGO_TARGET_DIR=$(abspath $(TARGET)) bindings-node/build.sh
	cd bindings-node && npm test
	cd examples/node && npm ci --ignore-scripts --silent --no-audit --no-fund && npm test

# Every scenario on the C host under AddressSanitizer and UndefinedBehaviorSanitizer, some under valgrind.
sanitize: hosts packages
	cargo build --release --locked -p wsguard-runner
	TARGET=$(abspath $(TARGET)) tests/abi/sanitize.sh

# The client for browsers and Node: fake time, types, its size, Chromium and ws against the Rust host.
client: hosts packages
	cd bindings-node/client && npm ci --ignore-scripts --silent --no-audit --no-fund && npm test

# Applications of other libraries that moved in: on the library that they come from, then on wsguard.
moving: moving-node moving-python

moving-node: hosts packages
	cd examples/node/moving && npm ci --ignore-scripts --silent --no-audit --no-fund
	cd tests/moving/node && npm ci --ignore-scripts --silent --no-audit --no-fund && npm test

moving-python: hosts
	CARGO_TARGET_DIR=$(abspath $(TARGET)) tests/moving/python/run.sh

install:
	cargo build --release --locked -p wsguard-ffi
	TARGET=$(abspath $(TARGET)) ffi/install.sh $(PREFIX)

# --- what is published (RELEASING.md) -------------------------------------------------------------------------------

# ONLY="wheels npm" makes some parts, TARGETS=… for some machines, UNTRIED=1 also addons and wheels that nobody has ever loaded.
comma := ,
empty :=
space := $(empty) $(empty)
dist:
	CARGO_TARGET_DIR=$(abspath $(TARGET)) tests/dist/run.sh build.py $(if $(ONLY),--only $(subst $(space),$(comma),$(strip $(ONLY)))) \
	    $(if $(TARGETS),--target $(subst $(space),$(comma),$(strip $(TARGETS)))) \
	    $(if $(UNTRIED),--untried)

# Versions and files of the packages, without building them; TAG=v0.1.0 must be theirs.
dist-check:
	python3 tests/dist/check.py $(TAG)

# Installs each into a clean place without Rust, and lets it do its main job there; ONLY="python node".
dist-test:
	tests/packages.sh pkg-config cmake binutils
	CARGO_TARGET_DIR=$(abspath $(TARGET)) tests/dist/run.sh try.py $(ONLY)

packages:
	tests/packages.sh chromium firefox-esr nginx libnginx-mod-stream haproxy apache2-bin caddy varnish libfaketime openssl valgrind cmake pkg-config \
	    redis-server redis-sentinel

autobahn: hosts
	tests/autobahn/run.sh $(if $(FAST),--fast)

# All targets, or TARGETS="frames contract".
fuzz:
	tests/fuzz/run.sh $(SECONDS) $(TARGETS)

# Servers of other libraries, as their documentation writes them, and ours, examined with `wsguard audit`.
audit: hosts
	cargo build --locked --quiet -p wsguard-cli
	TARGET=$(abspath $(TARGET)) tests/audit/run.sh
audit-peers: audit

# The part of docs/AUDIT.md that follows the table of checks.
audit-doc:
	cargo build --locked --quiet -p wsguard-cli
	(sed '/^<!-- From here on:/q' docs/AUDIT.md; echo; $(TARGET)/debug/wsguard audit --list --markdown) > docs/AUDIT.md.new
	mv docs/AUDIT.md.new docs/AUDIT.md

# Takes one check after the other out of the core; a named scenario must fail each time.
removals:
	python3 tests/removals/run.py

# The list follows the sources; `make removals` itself takes half an hour.
removals-check:
	python3 tests/removals/run.py --check

bench: hosts
	cargo run --release --locked -p wsguard-bench --bin bench -- $(if $(QUICK),--quick)

# --- what CI runs -------------------------------------------------------------------------------------------------

fmt:
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

# Writes again what is made from the table of options (core/proto/src/options/stated.rs); tests compare it.
options:
	cargo run --quiet --locked -p wsguard-proto --example options > core/proto/options.json.new
	mv core/proto/options.json.new core/proto/options.json
	node bindings-node/scripts/typings.mjs
	python3 bindings-python/scripts/options.py

# Which modules may import which.
structure:
	python3 tests/structure.py
	python3 tests/feature_set.py

# After a change of dependencies: one set of features for each, whatever is built.
feature-set:
	python3 tests/feature_set.py --write

# The fuzz targets are no member of the workspace: nothing else would say before the end that they do not compile any more.
lint:
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz --locked --quiet -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	$(MAKE) docs-site

# The documents, and a reference made of the sources, as a site with a search; checked in a browser.
docs-site:
	tests/packages.sh chromium
	@RUSTDOCFLAGS="-D warnings" $(BUILDING) "the crate's documentation" cargo doc -p wsguard --no-deps --locked
	docs/site/build.sh $(abspath $(TARGET))/docs-site $(abspath $(TARGET))/doc

ready: fmt-check structure dist-check lint docs removals-check test
	$(MAKE) -o hosts autobahn FAST=1
	$(MAKE) fuzz SECONDS=60
