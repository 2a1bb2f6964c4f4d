#!/usr/bin/env bash
# Installs redis-server as target/tools/bin/redis-server, for the tests of records that replicas share:
# the one in PATH, or Debian's. Debian's packages are only unpacked, since installing redis-server would
# start a service.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/tools/bin
own=target/tools/redis

say() { echo "setup-redis: $*" >&2; }
works() { [[ -x $1 ]] && "$1" --version >/dev/null 2>&1; }
# Of the packages of this name.
dependencies() { apt-cache depends "$@" | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 != "libc6" { print $2 }' | sort -u; }

from_debian() {
  command -v apt-get >/dev/null || return 1
  if ! apt-cache show redis-server >/dev/null 2>&1; then
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -q </dev/null >&2 || say "apt-get update failed; continuing with the existing package lists"
  fi
  say "fetching Debian's packages"
  rm -rf $own.download $own.part
  mkdir -p $own.download
  # apt checks the packages against Debian's signatures. The program itself is in redis-tools; of its
  # libraries, some are seldom installed.
  local packages package
  mapfile -t packages < <(dependencies redis-server redis-tools)
  (cd $own.download && apt-get download -q redis-server redis-tools "${packages[@]}" </dev/null >&2) || return 1
  for package in $own.download/*.deb; do
    dpkg-deb --extract "$package" $own.part
  done
  rm -rf $own $own.download
  mv $own.part $own
  # Its process is the one that was started: tests stop and kill it by number.
  cat >$own/redis-server <<'SCRIPT'
#!/bin/sh
own=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$(echo "$own"/usr/lib/*-linux-gnu | tr ' ' :) exec "$own/usr/bin/redis-server" "$@"
SCRIPT
  chmod +x $own/redis-server
}

mkdir -p $bin
! works $bin/redis-server || exit 0

if found=$(command -v redis-server) && works "$found"; then
  ln -sfn "$found" $bin/redis-server
elif works $own/redis-server || from_debian; then
  ln -sfn ../redis/redis-server $bin/redis-server
fi
works $bin/redis-server || {
  say "redis-server not found. Install it into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that need it will report that they are skipped"
}
