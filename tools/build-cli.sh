#!/usr/bin/env bash
# Builds the command wecom-callbacks as a release has it: one static program for any Linux on x86-64,
# without a path of this machine in it. Its last line of output is the program's path.
#
# It is linked with musl. Where rustup cannot fetch that target, or there is no C compiler for it (one
# dependency has C code), it is linked statically with the C library of this machine, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh
source tools/rustflags.sh

musl=x86_64-unknown-linux-musl
gnu=x86_64-unknown-linux-gnu

say() { echo "build-cli: $*" >&2; }
die() { say "$@"; exit 1; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }

main() {
  local target=$musl missing
  read_flags
  export CARGO_TARGET_DIR=$PWD/target
  # A blank in a folder's name must not end an argument of the C compiler either.
  export CC_SHELL_ESCAPED_FLAGS=1
  if ! missing=$(why_no_musl); then
    printf '%s\n' "####################" "# NOT MUSL: $missing." \
      "# Linked statically with this machine's C library instead." "####################" >&2
    target=$gnu
    flags+=(-C target-feature=+crt-static)
  fi
  hide_paths cargo "${RUSTC:-rustc}" "$target"
  export_flags
  cargo build --release --locked --package wecom-callbacks --target "$target" >&2
  echo "target/$target/release/wecom-callbacks"
}

# Fails, and prints what is missing, if musl cannot be linked with; installs what can be installed.
why_no_musl() {
  if ! has_library; then
    if ! command -v rustup >/dev/null || ! within 120 rustup target add $musl >&2 || ! has_library; then
      echo "rustup has no $musl and cannot fetch it"
      return 1
    fi
  fi
  has_compiler && return
  if command -v apt-get >/dev/null; then
    # In a shell of its own: install_missing ends the one that it runs in.
    (install_missing musl-tools) >&2 || true
  fi
  has_compiler || { echo "there is no musl-gcc"; return 1; }
}

has_library() {
  local library
  library=$(rustc --print target-libdir --target $musl 2>/dev/null) && [[ -d $library ]]
}

# By the names that the crate cc looks for.
has_compiler() { command -v x86_64-linux-musl-gcc musl-gcc >/dev/null; }

main "$@"
