#!/usr/bin/env bash
# Installs prometheus and promtool into target/tools/bin, for the tests of metrics, alerts and
# dashboard: those in PATH, or Debian's. Debian's package is only unpacked, since installing it would
# start a service.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh

bin=target/tools/bin
own=target/tools/prometheus

say() { echo "setup-prometheus: $*" >&2; }
works() { [[ -x $1/prometheus && -x $1/promtool ]] && "$1/promtool" --version >/dev/null 2>&1; }
link() {
  ln -sfn "$1/prometheus" $bin/prometheus
  ln -sfn "$1/promtool" $bin/promtool
}

mkdir -p $bin
! works $bin || exit 0

if found=$(command -v prometheus) && works "$(dirname "$found")"; then
  link "$(dirname "$found")"
elif works $own/usr/bin || unpack_packages $own 0 prometheus; then
  link ../prometheus/usr/bin
fi
works $bin || {
  say "prometheus and promtool not found. Install both into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that need them will report that they are skipped"
}
