# Builds the filter, runs it under Envoy and tests it. Everything fetched or built for that goes to
# target/tools. Outside of it, rustup's components and targets are installed and, where rustup cannot
# fetch them, Debian's packages (tools/cargo-wasm.sh, tools/build-cli.sh, tools/coverage.sh).
#
#   ENVOY=/path/to/envoy     use this Envoy
#   ENVOY_VERSION=1.39.3     fetch this version instead of the default
#   WASM_TOOLCHAIN=debian    compile to Wasm with Debian's packages (or: rustup)

CARGO ?= cargo
MODULE := target/wasm32-wasip1/release/wecom_callback_filter.wasm
TRAP_MODULE := target/wasm32-wasip1/trap/wecom_callback_filter.wasm
TOOLS := $(CURDIR)/target/tools
# Envoy is started through func-e where that is available, else directly.
PROGRAMS = ENVOY="$(TOOLS)/bin/envoy" FUNC_E="$$(ls "$(TOOLS)/bin/func-e" 2>/dev/null)" \
	WECOM_WASM="$(CURDIR)/$(MODULE)" WECOM_TRAP_WASM="$(CURDIR)/$(TRAP_MODULE)"

DEMO = $(PROGRAMS) $(CARGO) run --quiet --package wecom-callbacks --features demo -- demo

.DEFAULT_GOAL := help
.PHONY: help build build-trap reproducible dist dist-reproducible run demo demo-replicas cli check-config test conformance coverage \
	fuzz bench bench-micro pictures check clean setup setup-actionlint setup-curl setup-envoy setup-func-e setup-go setup-maven setup-npm \
	setup-oci setup-pip setup-prometheus setup-redis setup-schemas setup-valgrind setup-vendors setup-wrk \
	setup-wasm-bindgen-test-runner setup-cargo-cyclonedx setup-cargo-deny setup-cargo-fuzz setup-cargo-llvm-cov

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' Makefile

build: ## Compile the filter: target/wasm32-wasip1/release/wecom_callback_filter.wasm
	tools/build-module.sh release

# The same with a feature that lets tests make it panic; see src/envoy/trap.rs.
build-trap:
	tools/build-module.sh trap --features trap

# Two builds of the same sources with the same toolchain are the same file, wherever they are made.
reproducible: build ## Build the module once more, elsewhere, and compare
	tools/reproducible.sh

# docs/release.md says what is in it. The command is linked with musl, which rustup fetches.
dist: build setup-cargo-cyclonedx ## Put a release together: dist/
	tools/dist.sh

# Not part of the gate, as the command is compiled twice.
dist-reproducible: dist ## Make the release once more, elsewhere, and compare
	tools/reproducible.sh dist

run: build setup-envoy setup-func-e ## Start Envoy with the filter and a stand-in backend, until Ctrl-C
	tools/run.sh

demo: build setup-envoy setup-func-e ## Send sample callbacks through the filter and explain the answers
	$(DEMO)

demo-replicas: build setup-envoy setup-func-e setup-redis ## The same with two Envoys and one Redis: copies, failures
	$(DEMO) --replicas

# Without the demos, which start Envoy from this repository; see docs/cli.md.
cli: ## Build the command wecom-callbacks: target/release/wecom-callbacks
	$(CARGO) build --release --locked --package wecom-callbacks

# Secrets given by name are looked up in the environment, unless FLAGS=--env-optional. FILE=- is
# standard input; FLAGS=--help lists what else there is.
check-config: ## Check a configuration without Envoy: make check-config FILE=envoy.yaml
	@$(CARGO) run --quiet --package wecom-callbacks -- check $(FLAGS) "$(or $(FILE),envoy.yaml)"

# The protocol tests run twice: natively, and compiled to Wasm in the engine of Node.
# TEST selects a part of them; see tools/test.sh.
test: build build-trap setup ## Run all tests, or some: TEST=wasm, TEST=SUITE, TEST=PART_OF_A_NAME
ifdef TEST
	$(PROGRAMS) NODE_PATH="$(TOOLS)/node_modules" CARGO="$(CARGO)" tools/test.sh "$(TEST)"
else
	$(PROGRAMS) NODE_PATH="$(TOOLS)/node_modules" $(CARGO) test --workspace
	tools/cargo-wasm.sh test --target wasm32-unknown-unknown --lib --test vectors
endif

# `make test` does the same with fewer callbacks. WRITE=yes writes the page's tables instead of comparing them.
conformance: build setup-envoy setup-func-e setup-go setup-maven setup-npm setup-pip ## Four SDKs and the filter open what the other seals; fails if docs/conformance.md says otherwise
	$(PROGRAMS) NODE_PATH="$(TOOLS)/node_modules" CONFORMANCE=full $(if $(WRITE),CONFORMANCE_PAGE=write) \
		$(CARGO) test --test conformance -- --nocapture

# Not part of the gate, where `make test` runs the same tests.
coverage: setup-cargo-llvm-cov ## Measure coverage by native tests; fails under COVERAGE_LINES (95) per cent
	tools/coverage.sh

fuzz: setup-cargo-fuzz ## Search for inputs that break a promise, each target for FUZZ_SECONDS (60)
	tools/fuzz.sh

# BENCH=quick is shorter; bench/src/plan.rs says what else can be chosen.
bench: build setup-envoy setup-redis setup-vendors setup-wrk ## Measure what a callback costs, and how that grows: 20 minutes, or less
	tools/cargo-wasm.sh build --quiet --profile release --target wasm32-wasip1 --package noop-filter
	$(PROGRAMS) $(CARGO) run --quiet --release --package bench

# BENCH=claim is a part of them; other options are criterion's. AES and SHA-1 are those that the module has. In a
# folder of its own, as benches may unwind, and other programs of the profile may not.
bench-micro: ## Time the steps of a callback natively: verify, open, seal, claim, settle
	RUSTFLAGS='--cfg aes_backend="soft" --cfg sha1_backend="soft"' \
		$(CARGO) bench --quiet --target-dir target/costs --package costs -- $(BENCH)

pictures: ## Draw docs/pictures anew from their sources; needs graphviz
	for source in docs/pictures/*.dot; do dot -Tsvg "$$source" -o "$${source%.dot}.svg"; done

check: setup-cargo-deny ## Check lock files, format, lints, documentation and dependencies
	$(CARGO) metadata --locked --format-version 1 >/dev/null
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --package wecom-callbacks -- -D warnings # as it is built, without its demos
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --no-default-features --all-targets -- -D warnings
	tools/cargo-wasm.sh clippy --target wasm32-wasip1 --lib -- -D warnings
	tools/cargo-wasm.sh clippy --target wasm32-wasip1 --lib --features trap -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	RUSTDOCFLAGS="-D warnings" tools/cargo-wasm.sh doc --target wasm32-wasip1 --lib --no-deps --document-private-items
	tools/check-dependencies.sh

clean: ## Remove what was built, but keep target/tools
	find target -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf {} +
	rm -rf dist

# Each does nothing if what it installs is already there.
setup: setup-actionlint setup-curl setup-envoy setup-func-e setup-go setup-maven setup-npm setup-oci setup-pip \
	setup-prometheus setup-redis setup-schemas setup-valgrind setup-wasm-bindgen-test-runner setup-cargo-cyclonedx
setup-actionlint setup-curl setup-envoy setup-func-e setup-go setup-maven setup-npm setup-oci setup-pip \
setup-prometheus setup-redis setup-schemas setup-valgrind setup-vendors setup-wrk:
	@tools/$@.sh
setup-wasm-bindgen-test-runner setup-cargo-cyclonedx setup-cargo-deny setup-cargo-fuzz setup-cargo-llvm-cov:
	@tools/cargo-tool.sh $(@:setup-%=%)
