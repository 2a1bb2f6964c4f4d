#!/usr/bin/env bash
# Puts cargo-fuzz at target/tools/bin, for `make fuzz`. No nightly compiler is needed: without a
# sanitizer cargo-fuzz asks for nothing that the stable one does not have.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.13.2
program=target/tools/bin/cargo-fuzz

mkdir -p target/tools/bin
[[ $("$program" --version 2>/dev/null || true) != "cargo-fuzz $version" ]] || exit 0

if found=$(command -v cargo-fuzz) && [[ $("$found" --version) == "cargo-fuzz $version" ]]; then
  ln -sfn "$found" $program
  exit 0
fi
echo "setup-fuzz: building cargo-fuzz $version" >&2
# It runs for seconds, so its build is what counts.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A target folder of its own: the shared one may be locked by another build.
export CARGO_TARGET_DIR=target/tools/build-fuzz
build() {
  cargo install "$@" --force --no-track --root target/tools "cargo-fuzz@$version" </dev/null
}
# A registry's mirror may lag behind the lock file that the crate brings along.
build --locked || { echo "setup-fuzz: not with its own lock file; again without" >&2; build; }
rm -rf $CARGO_TARGET_DIR
