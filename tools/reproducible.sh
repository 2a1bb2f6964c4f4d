#!/usr/bin/env bash
# Builds the module a second time, from a copy of this folder in another place and with another
# CARGO_HOME, and compares it with the first, for `make reproducible`:
#
#   tools/reproducible.sh          the module
#   tools/reproducible.sh dist     the whole release, the command included, which takes minutes
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-module}
module=target/wasm32-wasip1/release/wecom_callback_filter.wasm
# Cargo and rustc must cope with its blanks too.
other=$(mktemp -d -t "another place XXXXXX")
trap 'rm -rf "$other"' EXIT

same() {
  if ! "$@"; then
    echo "reproducible: the two builds differ" >&2
    exit 1
  fi
}

mkdir -p "$other/sources" "$other/cargo home/registry"
# With .git, which names the commit.
tar -c --exclude ./target --exclude ./dist --exclude ./fuzz/target --exclude ./fuzz/corpus --exclude node_modules . |
  tar -x -C "$other/sources"
# What was downloaded need not be downloaded again; it is unpacked there, as in any new CARGO_HOME.
for part in registry/cache registry/index config.toml; do
  if [[ -e ${CARGO_HOME:-$HOME/.cargo}/$part ]]; then
    cp -R "${CARGO_HOME:-$HOME/.cargo}/$part" "$other/cargo home/$part"
  fi
done

export CARGO_HOME="$other/cargo home"
"$other/sources/tools/build-module.sh" release
sha256sum "$module" "$other/sources/$module"
same cmp "$module" "$other/sources/$module"
if [[ $what == dist ]]; then
  mkdir -p "$other/sources/target/tools/bin"
  cp -L target/tools/bin/cargo-cyclonedx "$other/sources/target/tools/bin"
  "$other/sources/tools/dist.sh" >/dev/null
  same diff -r dist "$other/sources/dist"
  sha256sum dist/SHA256SUMS "$other/sources/dist/SHA256SUMS"
fi
