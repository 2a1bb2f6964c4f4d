#!/usr/bin/env bash
# Measures which lines and branches of src/ the native tests reach, without Envoy: unit tests, the
# worker on its model host, vectors and the replay of the fuzz targets. Not src/envoy, which compiles
# for Wasm only. Fails where a group of files that decides about callbacks falls short of
# COVERAGE_LINES per cent.
#
#   COVERAGE_LINES=95                 the least share of lines
#   LLVM_COV=… LLVM_PROFDATA=…        the programs that read the profile, of rustc's LLVM or newer
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh
export CARGO_TARGET_DIR=$PWD/target PATH=$PWD/target/tools/bin:$PATH

say() { echo "coverage: $*" >&2; }
die() { say "$@"; exit 1; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }

main() {
  find_llvm
  local report=$CARGO_TARGET_DIR/coverage.lcov
  # Branches are measured by a compiler that takes itself for a nightly one.
  RUSTC_BOOTSTRAP=1 cargo llvm-cov --branch --lcov --output-path "$report" \
    --lib --test vectors --test worker --test fuzz_replay --test fuzz_findings </dev/null
  python3 tools/coverage.py "$report" "${COVERAGE_LINES:-95}"
}

# The profile's format is that of the LLVM in rustc.
find_llvm() {
  [[ -z ${LLVM_COV:-} || -z ${LLVM_PROFDATA:-} ]] || return 0
  has_component && return
  if command -v rustup >/dev/null; then
    say "asking rustup for llvm-tools"
    within 120 rustup component add llvm-tools >&2 || true
    has_component && return
  fi
  local version
  version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  if ! command -v "llvm-cov-$version" >/dev/null && command -v apt-get >/dev/null; then
    install_missing "llvm-$version"
  fi
  if ! LLVM_COV=$(command -v "llvm-cov-$version") || ! LLVM_PROFDATA=$(command -v "llvm-profdata-$version"); then
    die "NOT MEASURED: needs llvm-cov and llvm-profdata of LLVM $version. With network access:" \
      "rustup component add llvm-tools. Or name programs that are there by LLVM_COV and LLVM_PROFDATA"
  fi
  export LLVM_COV LLVM_PROFDATA
}

# cargo-llvm-cov finds it there by itself.
has_component() {
  compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/llvm-cov" >/dev/null
}

main
