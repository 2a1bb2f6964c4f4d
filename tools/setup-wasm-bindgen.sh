#!/usr/bin/env bash
# Puts wasm-bindgen-test-runner at target/tools/bin: it runs the protocol tests, compiled to Wasm,
# under Node. Its version must be exactly that of the wasm-bindgen crate in Cargo.lock.
set -euo pipefail
cd "$(dirname "$0")/.."

runner=target/tools/bin/wasm-bindgen-test-runner

say() { echo "setup-wasm-bindgen: $*" >&2; }

command -v node >/dev/null || { say "needs Node 20 or later"; exit 1; }
version=$(awk '$1 == "name" { name = $3 } $1 == "version" && name == "\"wasm-bindgen\"" { gsub(/"/, "", $3); print $3 }' Cargo.lock)
[[ -n $version ]] || { say "Cargo.lock names no wasm-bindgen"; exit 1; }
if [[ $("$runner" --version 2>/dev/null || true) == *" $version" ]]; then
  exit 0
fi

say "building wasm-bindgen-test-runner $version"
# It runs for seconds, so its build is what counts.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A target folder of its own: the shared one may be locked by another build.
export CARGO_TARGET_DIR=target/tools/build-wasm-bindgen
build() {
  cargo install "$@" --force --no-track --root target/tools --bin wasm-bindgen-test-runner \
    "wasm-bindgen-cli@$version" </dev/null
}
# A registry's mirror may lag behind the lock file that the crate brings along.
build --locked || { say "not with its own lock file; again without"; build; }
rm -rf $CARGO_TARGET_DIR
