#!/usr/bin/env bash
# Runs cargo for a Wasm target, with a toolchain that has one:
#
#   tools/cargo-wasm.sh build --release --target wasm32-wasip1
#   tools/cargo-wasm.sh rustc-version --target wasm32-wasip1     says with which compiler
#
# Cargo needs the target's standard library, which rustup downloads. Where rustup's server is out of
# reach, Debian's packages are used: their cargo compiles the standard library from source.
# WASM_TOOLCHAIN=rustup or WASM_TOOLCHAIN=debian forces one of them. Either way the result goes to
# this repository's target/, where envoy.yaml and the tests look for it, and what `build` makes holds no
# path of this machine: with the same toolchain, the same sources become the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh
source tools/rustflags.sh

debian_packages=(rustc-web cargo-web rust-web-src lld-22 wasi-libc)
debian_linker=wasm-ld-22

say() { echo "cargo-wasm: $*" >&2; }
die() { say "$@"; exit 1; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }

main() {
  local target
  target=$(target_of "$@")
  read_flags
  # With another target folder, Envoy would not find the module.
  export CARGO_TARGET_DIR=$PWD/target
  # Relative to this folder: cargo splits an absolute path at its blanks.
  local runner=target/tools/bin/wasm-bindgen-test-runner
  if [[ -x $runner ]]; then
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$runner
  fi

  case ${WASM_TOOLCHAIN:-} in
    rustup)
      has_target "$target" || add_target "$target" || die "rustup has no $target and cannot add it"
      by_rustup "$@" ;;
    debian)
      by_debian "$target" "$@" ;;
    "")
      command -v cargo >/dev/null || die "no cargo found. Install Rust with rustup (https://rustup.rs)," \
        "or on Debian 12: apt-get install ${debian_packages[*]} rust-web-clippy rustfmt-web gcc libc6-dev"
      if has_target "$target" || add_target "$target"; then
        by_rustup "$@"
      fi
      by_debian "$target" "$@" ;;
    *)
      die "WASM_TOOLCHAIN is rustup or debian, not '$WASM_TOOLCHAIN'" ;;
  esac
}

target_of() {
  while (($#)); do
    case $1 in
      --target) echo "${2:-}"; return ;;
      --target=*) echo "${1#--target=}"; return ;;
      --) break ;;
    esac
    shift
  done
  die "name the target: --target wasm32-wasip1 or --target wasm32-unknown-unknown"
}

# Both its standard library and the linker that comes with rustup's toolchains: a distribution's
# rustc may have only the first.
has_target() {
  local library sysroot
  library=$(rustc --print target-libdir --target "$1" 2>/dev/null) && [[ -d $library ]] || return 1
  sysroot=$(rustc --print sysroot)
  compgen -G "$sysroot/lib/rustlib/*/bin/rust-lld" >/dev/null
}

add_target() {
  command -v rustup >/dev/null || return 1
  say "asking rustup for $1"
  within 120 rustup target add "$1" >&2 && has_target "$1"
}

by_rustup() {
  if [[ $1 == rustc-version ]]; then
    exec "${RUSTC:-rustc}" --version
  fi
  if [[ $1 == build ]]; then
    hide_paths cargo "${RUSTC:-rustc}" "$target"
  fi
  export_flags
  exec cargo "$@"
}

by_debian() {
  local target=$1 subcommand=$2
  shift 2
  command -v apt-get >/dev/null || die "no $target: neither rustup nor Debian's packages can provide it here." \
    "With network access: rustup target add $target"
  if [[ $subcommand == rustc-version ]]; then
    echo "$(/usr/bin/rustc --version), its standard library from source, $($debian_linker --version)"
    exit
  elif [[ $subcommand == clippy ]]; then
    install_missing "${debian_packages[@]}" rust-web-clippy
  else
    install_missing "${debian_packages[@]}"
  fi
  say "$subcommand for $target with Debian's $(/usr/bin/rustc --version)"

  # By full path: rustup's shims may come first in PATH, and cargo prefers them for its subcommands.
  export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
  unset RUSTUP_TOOLCHAIN
  # Lets a stable compiler build its own standard library.
  export RUSTC_BOOTSTRAP=1
  export CARGO_TARGET_WASM32_WASIP1_LINKER=$debian_linker
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$debian_linker
  if [[ $target == wasm32-wasip1 ]]; then
    # With the flags that are set already, which would beat the target's own variable.
    flags+=(-L native=/usr/lib/wasm32-wasi)
  fi
  if [[ $subcommand == build ]]; then
    hide_paths "$CARGO" "$RUSTC" "$target"
  fi
  export_flags
  if [[ $subcommand == clippy ]]; then
    exec /usr/bin/cargo-clippy clippy -Zbuild-std=std,panic_abort "$@"
  fi
  exec /usr/bin/cargo "$subcommand" -Zbuild-std=std,panic_abort "$@"
}

main "$@"
