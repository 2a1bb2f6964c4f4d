#!/usr/bin/env bash
# Installs prometheus and promtool into target/tools/bin, for the tests of metrics, alerts and
# dashboard: those in PATH, or Debian's. Debian's package is only unpacked, since installing it would
# start a service.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/tools/bin
own=target/tools/prometheus

say() { echo "setup-prometheus: $*" >&2; }
works() { [[ -x $1/prometheus && -x $1/promtool ]] && "$1/promtool" --version >/dev/null 2>&1; }
link() {
  ln -sfn "$1/prometheus" $bin/prometheus
  ln -sfn "$1/promtool" $bin/promtool
}

from_debian() {
  command -v apt-get >/dev/null || return 1
  if ! apt-cache show prometheus >/dev/null 2>&1; then
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -q </dev/null >&2 || say "apt-get update failed; continuing with the existing package lists"
  fi
  say "fetching Debian's package"
  rm -rf $own.download $own.part
  mkdir -p $own.download
  # apt checks the package against Debian's signatures.
  (cd $own.download && apt-get download -q prometheus </dev/null >&2) || return 1
  dpkg-deb --extract $own.download/prometheus_*.deb $own.part
  rm -rf $own $own.download
  mv $own.part $own
}

mkdir -p $bin
! works $bin || exit 0

if found=$(command -v prometheus) && works "$(dirname "$found")"; then
  link "$(dirname "$found")"
elif works $own/usr/bin || from_debian; then
  link ../prometheus/usr/bin
fi
works $bin || {
  say "prometheus and promtool not found. Install both into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that need them will report that they are skipped"
}
