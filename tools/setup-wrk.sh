#!/usr/bin/env bash
# Installs wrk as target/tools/bin/wrk, for `make bench`: the one in PATH, or Debian's, which is only
# unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh

bin=target/tools/bin
own=target/tools/wrk

say() { echo "setup-wrk: $*" >&2; }
# It knows no --version, and ends with 1 after it has shown its own.
works() { [[ -x $1 ]] && [[ $("$1" -v 2>&1) == wrk* ]]; }

from_debian() { unpack_packages $own 1 wrk && script_for $own/run wrk; }

mkdir -p $bin
! works $bin/wrk || exit 0
if found=$(command -v wrk) && works "$found"; then
  ln -sfn "$found" $bin/wrk
elif works $own/run || from_debian; then
  ln -sfn ../wrk/run $bin/wrk
fi
works $bin/wrk || { say "wrk not found. Install it into PATH"; exit 1; }
