#!/usr/bin/env bash
# Puts cargo-deny 0.20 at target/tools/bin, for `make check`: it holds the dependencies against
# deny.toml. The newest release is of no use here, since the format of deny.toml changes with it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
program=target/tools/bin/cargo-deny

mkdir -p target/tools/bin
[[ $("$program" --version 2>/dev/null || true) != "cargo-deny 0.20."* ]] || exit 0

if found=$(command -v cargo-deny) && [[ $("$found" --version) == "cargo-deny 0.20."* ]]; then
  ln -sfn "$found" $program
  exit 0
fi
echo "setup-deny: building cargo-deny $version, some minutes" >&2
# It runs for seconds, so its build is what counts.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A target folder of its own: the shared one may be locked by another build.
export CARGO_TARGET_DIR=target/tools/build-deny
build() {
  cargo install "$@" --force --no-track --root target/tools "cargo-deny@$version" </dev/null
}
# A registry's mirror may lag behind the lock file that the crate brings along.
build --locked || { echo "setup-deny: not with its own lock file; again without" >&2; build; }
rm -rf $CARGO_TARGET_DIR
