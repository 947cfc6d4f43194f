# `make` alone lists the targets. Everything lives in .venv, target and .cache: nothing is installed outside the folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One spelling of the target folder, whatever the environment says, so that stamps and artefacts stay together.
export CARGO_TARGET_DIR := $(CURDIR)/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Not the tests, examples and fuzz targets: the module is not built from them.
RUST := $(shell find rust/core/src rust/python/src -name '*.rs') $(wildcard rust/*/Cargo.toml) Cargo.toml Cargo.lock
DEPS := $(VENV)/.dependencies
WHEEL_DEPS := $(VENV)/.wheel-dependencies
# Both builds of the native module go to the same place in src/. A build removes the other's stamp first, so that at most
# one stamp exists, and it says which build is there.
BUILT := $(VENV)/.built
BUILT_DEV := $(VENV)/.built-dev
# For targets that work with either build: the one that is there.
MODULE := $(if $(wildcard $(BUILT_DEV)),$(BUILT_DEV),$(BUILT))
# The build that is there; if there is none, the quicker one.
QUICK := $(if $(wildcard $(BUILT)),$(BUILT),$(BUILT_DEV))
# A workspace of its own: the yardsticks of bench/ share no code with what they measure.
LIMITS := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/bench-limits

.DEFAULT_GOAL := help
.PHONY: help setup build build-dev demo test test-rust test-python test-fast test-debug check format codegen test-packaging simulate mutants bench bench-quick bench-network bench-instructions kafka chaos models fuzz soak wheel hooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(DEPS): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("Penstock needs Python 3.11 or newer, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	@command -v cargo >/dev/null || { echo "Penstock needs a Rust toolchain (cargo) to build its native module." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements/dev.txt
	@touch $@

# The stamp has the time before the build: a source that is edited meanwhile is newer, and built the next time.
$(BUILT): $(DEPS) $(RUST) pyproject.toml
	@rm -f $(BUILT_DEV) && touch $@.begun
	$(BIN)/maturin develop --release --quiet
	@rm -f $(BUILT_DEV) && mv $@.begun $@

$(BUILT_DEV): $(DEPS) $(RUST) pyproject.toml
	@rm -f $(BUILT) && touch $@.begun
	$(BIN)/maturin develop --quiet
	@rm -f $(BUILT) && mv $@.begun $@

$(WHEEL_DEPS): requirements/wheel.txt $(DEPS)
	$(BIN)/pip install --quiet -r requirements/wheel.txt
	@touch $@

setup: $(DEPS)
build: $(BUILT) ## build the native module into .venv, optimized
build-dev: $(BUILT_DEV) ## the same in seconds after a change: not optimized, checks the order of locks and lane transitions

demo: $(BUILT) ## send 336,776 real flights through an embedded broker, and prove that they arrived
	$(BIN)/python -m penstock.cli.demo

# T=rust… is for cargo, anything else for pytest: see CONTRIBUTING.md.
ifdef T
FIRST := $(firstword $(T))
REST := $(wordlist 2,$(words $(T)),$(T))
RUST_SOURCE := $(patsubst %/mod,%,$(basename $(FIRST:rust/core/src/%=%)))
CARGO_TEST := $(strip \
  $(if $(filter rust,$(FIRST)),$(REST), \
  $(if $(filter rust/core/tests/models%,$(FIRST)),--features models --test models $(REST), \
  $(if $(filter rust/core/tests/%.rs,$(FIRST)),--test $(basename $(notdir $(FIRST))) $(REST), \
  $(if $(filter rust/core/src/%.rs,$(FIRST)),--lib $(or $(REST),$(subst /,::,$(RUST_SOURCE))::))))))
test: $(if $(filter rust rust/%,$(FIRST)),$(DEPS),$(QUICK))
	$(if $(filter rust rust/%,$(FIRST)),cargo test -p penstock-core $(CARGO_TEST),$(BIN)/python -m pytest -q $(T))
else
test: test-rust test-python ## every test: Rust, Python, the embedded broker, a real Kafka; T=… picks some
endif

test-rust: $(DEPS)
	cargo test --quiet -p penstock-core
	cargo test --quiet -p penstock-core --features models --test models
	$(LIMITS) cargo test --quiet --locked --manifest-path bench/limits/Cargo.toml

# Side by side: most tests wait for processes and timeouts. Those that share the Kafka, or the JVM, share a worker.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup

test-python: $(BUILT)
	$(PYTEST)

test-fast: $(QUICK) ## tests without Java, Kafka and Go, in less than two minutes once built, with the build that is there
	cargo test --quiet -p penstock-core --lib --test engine --test sequences --test deadlines
	$(PYTEST) tests/unit tests/facade/test_futures.py tests/facade/test_flush_close.py \
	  tests/facade/test_aio_producer.py tests/facade/test_trouble.py tests/devbroker/test_log.py

test-debug: $(BUILT_DEV) ## units, facades and simulation on the debug build: order of locks, transitions of lanes
	$(PYTEST) tests/unit tests/facade tests/simulation

# `make test` has no time for these builds: the wheel's is one from scratch, for another glibc.
PACKAGES := $(CARGO_TARGET_DIR)/packages

test-packaging: $(BUILT) ## the wheel on every CPython of this machine, a build from the sdist, builds without the stable ABI
	rm -rf $(PACKAGES)
	$(MAKE) --no-print-directory wheel WHEEL_DIR=$(PACKAGES)
	PENSTOCK_PACKAGES=$(PACKAGES) $(BIN)/python -m pytest -q tests/packages

simulate: $(BUILT) ## seeds of the deterministic simulation: SEEDS=0:1000, or one; TEMPER=expiry
	cd tests && $(CURDIR)/$(BIN)/python -m simulation $(or $(SEEDS),0:1000) $(if $(TEMPER),--temper $(TEMPER))

mutants: $(BUILT) ## break the rules one by one and see the simulation notice (a build for each, minutes in all)
	cd tests && $(CURDIR)/$(BIN)/python -m simulation.mutants

check: $(MODULE) ## format, lint, types, layers, drift of generated code, stub: what CI runs
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo clippy --quiet -p penstock-core --features models --test models -- -D warnings
	cargo fmt --manifest-path bench/limits/Cargo.toml --check
	$(LIMITS) cargo clippy --quiet --locked --manifest-path bench/limits/Cargo.toml --all-targets -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy -p bench
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports
	$(BIN)/python tools/layout/lines.py
	$(BIN)/python tools/layout/circles.py rust/core rust/python
	$(BIN)/python -m codegen --check
	$(BIN)/python -m codegen.config --check
	$(BIN)/python -m codegen.errors --check
	$(BIN)/python -m codegen.error_tables --check
	$(BIN)/python -m mypy.stubtest penstock._native

format: $(DEPS) ## format everything
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

codegen: $(DEPS) ## write the generated code again from the kafka-clients jar
	$(BIN)/python -m codegen
	$(BIN)/python -m codegen.config
	$(BIN)/python -m codegen.errors
	$(BIN)/python -m codegen.error_tables

bench: $(BUILT) ## every row against other clients; ROWS=100B,keyed picks, FRESH=1 measures again
	$(BIN)/python -m bench

bench-quick: $(BUILT) ## the same with fewer and shorter runs, under 9 minutes
	$(BIN)/python -m bench --quick

bench-network: $(BUILT) ## rows with distance (clients behind a link: root, /dev/net/tun, ip) and with faults; ROWS=, QUICK=1
	$(BIN)/python -m bench --network $(if $(QUICK),--quick)

bench-instructions: $(BUILT) ## instructions per message (valgrind), held against bench/instructions.json
	$(BIN)/python -m bench.instructions

models: ## every order of events where threads meet, with more switches between them than `make test` has time for
	MODEL_PREEMPTIONS=$(or $(MODEL_PREEMPTIONS),3) cargo test --quiet -p penstock-core --features models --test models

FUZZ_SECONDS ?= 60
FUZZ_ROOT := $(CURDIR)/.cache/cargo-fuzz
FUZZ := CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz $(FUZZ_ROOT)/bin/cargo-fuzz fuzz run --fuzz-dir rust/fuzz --sanitizer none

$(FUZZ_ROOT)/bin/cargo-fuzz:
	cargo install --quiet --locked --root $(FUZZ_ROOT) cargo-fuzz@0.13.2

fuzz: $(FUZZ_ROOT)/bin/cargo-fuzz ## FUZZ_SECONDS of hostile bytes for each native target (needs a C++ compiler)
	@for target in response framing engine compression; do \
	  mkdir -p $(CARGO_TARGET_DIR)/fuzz-corpus/$$target && \
	  $(FUZZ) $$target $(CARGO_TARGET_DIR)/fuzz-corpus/$$target rust/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 || exit 1; \
	done

SOAK_SECONDS ?= 600

soak: $(BUILT) ## SOAK_SECONDS of faults, and a thousand producers opened and closed: nothing may grow
	$(BIN)/python tools/soak/run.py --seconds $(SOAK_SECONDS)

kafka: ## a real Apache Kafka to play with, until Ctrl-C
	$(PYTHON) tools/kafka/run.py

CHAOS_SECONDS ?= 300
chaos: $(BUILT) ## break three real brokers for CHAOS_SECONDS (300) while producers send, by a plan of SEED, and judge
	$(BIN)/python tools/chaos/chaos_run.py --seconds $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))

WHEEL_DIR ?= dist
# zig comes with the headers and stubs of every glibc: the wheel runs on Linux from 2014 on, whatever this machine has.
wheel: $(WHEEL_DEPS) ## an abi3 wheel in dist/ for Linux with glibc 2.17 or newer, without the symbols that local builds keep
	PATH="$(CURDIR)/$(BIN):$$PATH" ZIG_GLOBAL_CACHE_DIR=$(CURDIR)/.cache/zig CARGO_ZIGBUILD_CACHE_DIR=$(CURDIR)/.cache/zigbuild \
	  $(BIN)/maturin build --release --strip --zig --compatibility manylinux2014 --out $(WHEEL_DIR)

hooks: $(DEPS) ## check the changed files before each commit, in seconds: formats, ruff, lengths of lines
	$(BIN)/pre-commit install

clean: ## remove what was built
	rm -rf $(VENV) target dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src -name '*.so' -delete
