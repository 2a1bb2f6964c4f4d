#!/usr/bin/env bash
# Installs skopeo and umoci into target/tools/bin, for the tests of the release's OCI image: those in
# PATH, or Debian's, which are only unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=target/tools/bin
own=target/tools/oci

say() { echo "setup-oci: $*" >&2; }
works() { [[ -x $1/skopeo && -x $1/umoci ]] && "$1/skopeo" --version >/dev/null 2>&1 && "$1/umoci" --version >/dev/null 2>&1; }
# The libraries of the packages of these names.
libraries() { apt-cache depends "$@" | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 != "libc6" { print $2 }' | sort -u; }
link() {
  ln -sfn "$1/skopeo" $bin/skopeo
  ln -sfn "$1/umoci" $bin/umoci
}

from_debian() {
  command -v apt-get >/dev/null || return 1
  if ! apt-cache show skopeo umoci >/dev/null 2>&1; then
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -q </dev/null >&2 || say "apt-get update failed; continuing with the existing package lists"
  fi
  say "fetching Debian's packages"
  rm -rf $own.download $own.part
  mkdir -p $own.download
  # apt checks the packages against Debian's signatures. Libraries of the libraries are fetched too:
  # those of gpgme are seldom installed.
  local direct packages package
  mapfile -t direct < <(libraries skopeo umoci)
  mapfile -t packages < <(libraries skopeo umoci "${direct[@]}")
  (cd $own.download && apt-get download -q skopeo umoci "${packages[@]}" </dev/null >&2) || return 1
  for package in $own.download/*.deb; do
    dpkg-deb --extract "$package" $own.part
  done
  rm -rf $own $own.download
  mv $own.part $own
  local program
  for program in skopeo umoci; do
    cat >$own/$program <<SCRIPT
#!/bin/sh
own=\$(dirname "\$(readlink -f "\$0")")
LD_LIBRARY_PATH=\$(echo "\$own"/usr/lib/*-linux-gnu "\$own"/lib/*-linux-gnu | tr ' ' :) exec "\$own/usr/bin/$program" "\$@"
SCRIPT
    chmod +x $own/$program
  done
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
