#!/usr/bin/env bash
# Installs valgrind as target/tools/bin/valgrind, which counts instructions for tests/costs: the one in
# PATH, or Debian's, which is only unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh

bin=target/tools/bin
own=target/tools/valgrind

say() { echo "setup-valgrind: $*" >&2; }
works() { [[ -x $1 ]] && "$1" --tool=callgrind --callgrind-out-file=/dev/null true >/dev/null 2>&1; }

from_debian() {
  unpack_packages $own 0 valgrind || return 1
  # Its tools are where it was unpacked. Debian's valgrind is a script that runs valgrind.bin.
  cat >$own/run <<'SCRIPT'
#!/bin/sh
own=$(dirname "$(readlink -f "$0")")
VALGRIND_LIB=$own/usr/libexec/valgrind exec "$own/usr/bin/valgrind.bin" "$@"
SCRIPT
  chmod +x $own/run
}

mkdir -p $bin
! works $bin/valgrind || exit 0
if found=$(command -v valgrind) && works "$found"; then
  # No link: Debian's looks for its program beside the name that it is called by.
  rm -f $bin/valgrind
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$found" >$bin/valgrind
  chmod +x $bin/valgrind
elif works $own/run || from_debian; then
  ln -sfn ../valgrind/run $bin/valgrind
fi
works $bin/valgrind || {
  say "valgrind not found. Install it into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the test that needs it will report that it is skipped"
}
