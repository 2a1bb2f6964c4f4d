#!/usr/bin/env bash
# Installs a program from crates.io into target/tools/bin, unless the right version is there:
#
#   tools/cargo-tool.sh cargo-deny
#
# If PATH has that version, it is linked; otherwise it is built, which takes a minute or more.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "cargo-tool: $*" >&2; }
die() { say "$@"; exit 1; }

# The table: the version to build, the versions accepted (a pattern), the crate if named otherwise.
describe() {
  crate=$program asked=(--version)
  case $program in
    cargo-cyclonedx)
      # For `make dist`: lists what the module and the command are made of. tools/sbom.py knows what this
      # version writes. Tells its version only when called as a subcommand of cargo.
      version=0.5.9 accepted=$version asked=(cyclonedx --version) ;;
    cargo-deny)
      # For `make check`: checks the dependencies against deny.toml. Not simply the newest release,
      # since the format of deny.toml changes with it.
      version=0.20.2 accepted='0.20.*' ;;
    cargo-fuzz)
      # For `make fuzz`. No nightly compiler is needed: without a sanitizer cargo-fuzz asks for
      # nothing that the stable one does not have.
      version=0.13.2 accepted=$version ;;
    cargo-llvm-cov)
      # For `make coverage`. Tells its version only when called as a subcommand of cargo.
      version=0.9.1 accepted='0.9.*' asked=(llvm-cov --version) ;;
    wasm-bindgen-test-runner)
      # For `make test`: runs the protocol tests, compiled to Wasm, under Node. Its version must be
      # exactly that of the wasm-bindgen crate in Cargo.lock.
      command -v node >/dev/null || die "$program needs Node 20 or later"
      crate=wasm-bindgen-cli
      version=$(locked wasm-bindgen) accepted=$version
      [[ -n $version ]] || die "Cargo.lock names no wasm-bindgen" ;;
    *)
      die "no such tool: '$program'" ;;
  esac
}

locked() {
  awk -v crate="\"$1\"" '$1 == "name" { name = $3 } $1 == "version" && name == crate { gsub(/"/, "", $3); print $3 }' Cargo.lock
}

is_accepted() {
  local answer
  answer=$("$1" "${asked[@]}" 2>/dev/null) || return 1
  # shellcheck disable=SC2053 # a pattern
  [[ ${answer##* } == $accepted ]]
}

build() {
  cargo install "$@" --force --no-track --root target/tools --bin "$program" "$crate@$version" </dev/null
}

program=${1:-}
describe
mkdir -p target/tools/bin
own=target/tools/bin/$program
! is_accepted "$own" || exit 0

if found=$(command -v "$program") && is_accepted "$found"; then
  ln -sfn "$found" "$own"
  exit 0
fi
say "building $program $version"
# It runs for seconds, so what counts is a quick build.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A target folder of its own: the shared one may be locked by another build.
export CARGO_TARGET_DIR=target/tools/build-$program
if ! build --locked; then
  # A registry's mirror may lag behind the lock file that the crate brings along. GitHub's runners, which make the
  # releases, use none: there, nothing but what was locked is compiled.
  [[ ${GITHUB_ACTIONS:-} != true ]] || die "the build with its own lock file failed"
  say "the build with its own lock file failed; trying without"
  build
fi
rm -rf "$CARGO_TARGET_DIR"
