# Sourced by the scripts that compile what is shipped. Those that call `hide_paths` stand in the repository's folder.
# shellcheck shell=bash

# The flags for rustc that are set already, in the form where an argument may contain blanks.
read_flags() {
  flags=()
  if [[ -n ${CARGO_ENCODED_RUSTFLAGS:-} ]]; then
    IFS=$'\x1f' read -ra flags <<<"$CARGO_ENCODED_RUSTFLAGS"
  elif [[ -n ${RUSTFLAGS:-} ]]; then
    read -ra flags <<<"$RUSTFLAGS"
  fi
}

export_flags() {
  ((${#flags[@]})) || return 0
  local IFS=$'\x1f'
  export CARGO_ENCODED_RUSTFLAGS="${flags[*]}"
}

# Panic messages name source files. Their names begin where sources lie on this machine: this folder,
# cargo's registry, the standard library. The last flag that fits a path is the one that counts.
hide_paths() {
  local cargo=$1 rustc=$2 target=$3 home registry commit
  home=${CARGO_HOME:-$HOME/.cargo}
  [[ $home == /* ]] || home=$PWD/$home
  flags+=("--remap-path-prefix=$PWD=." "--remap-path-prefix=$(pwd -P)=." "--remap-path-prefix=$home=cargo")
  # A registry's folder is named after its address. The crates are the same when they come from a
  # mirror, so that is hidden too; which takes the folders to be there before the build.
  "$cargo" fetch --quiet --target "$target"
  for registry in "$home"/registry/src/*/; do
    flags+=("--remap-path-prefix=${registry%/}=crates")
  done
  # What rustup's standard library, compiled elsewhere, has for its own sources.
  commit=$("$rustc" -vV | sed -n 's/^commit-hash: //p')
  flags+=("--remap-path-prefix=$("$rustc" --print sysroot)/lib/rustlib/src/rust=/rustc/$commit")
}
