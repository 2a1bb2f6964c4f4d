#!/usr/bin/env bash
# Installs skopeo and umoci into target/tools/bin, for the tests of the release's OCI image: those in
# PATH, or Debian's, which are only unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh

bin=target/tools/bin
own=target/tools/oci

say() { echo "setup-oci: $*" >&2; }
works() { [[ -x $1/skopeo && -x $1/umoci ]] && "$1/skopeo" --version >/dev/null 2>&1 && "$1/umoci" --version >/dev/null 2>&1; }
link() {
  ln -sfn "$1/skopeo" $bin/skopeo
  ln -sfn "$1/umoci" $bin/umoci
}

# With the libraries of the libraries: those of gpgme are seldom installed.
from_debian() {
  unpack_packages $own 2 skopeo umoci && script_for $own/skopeo skopeo && script_for $own/umoci umoci
}

mkdir -p $bin
! works $bin || exit 0
if found=$(command -v skopeo) && works "$(dirname "$found")"; then
  link "$(dirname "$found")"
elif works $own || from_debian; then
  link ../oci
fi
works $bin || {
  say "skopeo and umoci not found. Install both into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that need them will report that they are skipped"
}
