#!/usr/bin/env bash
# Installs wrk as target/tools/bin/wrk, for `make bench`: the one in PATH, or Debian's, which is only
# unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/tools/bin
own=target/tools/wrk

say() { echo "setup-wrk: $*" >&2; }
# It knows no --version, and ends with 1 after it has shown its own.
works() { [[ -x $1 ]] && [[ $("$1" -v 2>&1) == wrk* ]]; }

from_debian() {
  command -v apt-get >/dev/null || return 1
  if ! apt-cache show wrk >/dev/null 2>&1; then
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -q </dev/null >&2 || say "apt-get update failed; continuing with the existing package lists"
  fi
  say "fetching Debian's packages"
  rm -rf $own.download $own.part
  mkdir -p $own.download
  local libraries
  mapfile -t libraries < <(apt-cache depends wrk | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 != "libc6" { print $2 }')
  (cd $own.download && apt-get download -q wrk "${libraries[@]}" </dev/null >&2) || return 1
  for package in $own.download/*.deb; do
    dpkg-deb --extract "$package" $own.part
  done
  rm -rf $own $own.download
  mv $own.part $own
  cat >$own/run <<'SCRIPT'
#!/bin/sh
own=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$(echo "$own"/usr/lib/*-linux-gnu | tr ' ' :) exec "$own/usr/bin/wrk" "$@"
SCRIPT
  chmod +x $own/run
}

mkdir -p $bin
! works $bin/wrk || exit 0
if found=$(command -v wrk) && works "$found"; then
  ln -sfn "$found" $bin/wrk
elif works $own/run || from_debian; then
  ln -sfn ../wrk/run $bin/wrk
fi
works $bin/wrk || { say "wrk not found. Install it into PATH"; exit 1; }
