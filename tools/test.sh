#!/usr/bin/env bash
# Runs a part of the tests, for `make test TEST=NAME`. NAME is the first of these that fits:
#
#   wasm        the protocol tests, compiled to Wasm, in the engine of Node
#   a suite     tests/NAME.rs or tests/NAME/main.rs
#   otherwise   every native test with NAME in its full name, as `cargo test -- NAME` picks them;
#               with none, that is an error, not a success
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:?names the tests to run}
cargo=${CARGO:-cargo}

if [[ $name == wasm ]]; then
  exec tools/cargo-wasm.sh test --target wasm32-unknown-unknown --lib --test vectors
elif [[ -f tests/$name.rs || -f tests/$name/main.rs ]]; then
  exec "$cargo" test --test "$name"
fi
found=$("$cargo" test --workspace --quiet -- "$name" --list)
if [[ ! $found =~ :\ test($'\n'|$) ]]; then
  echo "test: '$name' is neither a suite of tests/ nor part of a test's name" >&2
  exit 1
fi
exec "$cargo" test --workspace -- "$name"
