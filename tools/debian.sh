# Sourced by the scripts that need Debian packages. They define `say`, and `die` where they install.
# shellcheck shell=bash

install_missing() {
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing Debian's ${missing[*]}"
  {
    update_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } </dev/null >&2 || die "could not install ${missing[*]}; as root: apt-get install ${missing[*]}"
}

# Unpacks packages into a folder, without root: installing them might start a service. The number says of how
# many levels their libraries are unpacked too. What was in the folder is gone. Fails, and changes nothing, if
# they cannot be had:
#
#   unpack_packages target/tools/wrk 1 wrk
unpack_packages() {
  local own=$1 levels=$2 libraries=() package
  shift 2
  command -v apt-get >/dev/null || return 1
  apt-cache show "$@" >/dev/null 2>&1 || update_lists </dev/null >&2
  say "fetching Debian's packages"
  while ((levels-- > 0)); do
    mapfile -t libraries < <(libraries_of "$@" "${libraries[@]}")
  done
  rm -rf "$own.download" "$own.part"
  mkdir -p "$own.download"
  # apt checks the packages against Debian's signatures.
  (cd "$own.download" && apt-get download -q "$@" "${libraries[@]}" </dev/null >&2) || return 1
  for package in "$own.download"/*.deb; do
    dpkg-deb --extract "$package" "$own.part" || return 1
  done
  rm -rf "$own" "$own.download"
  # Last: where the folder is, it is complete.
  mv "$own.part" "$own"
}

# Makes a script that runs a program which was unpacked into the script's folder, with the libraries there.
# Its process is the program's: tests stop and kill it by number.
script_for() {
  local script=$1 program=$2
  cat >"$script" <<SCRIPT
#!/bin/sh
own=\$(dirname "\$(readlink -f "\$0")")
LD_LIBRARY_PATH=\$(echo "\$own"/usr/lib/*-linux-gnu "\$own"/lib/*-linux-gnu | tr ' ' :) exec "\$own/usr/bin/$program" "\$@"
SCRIPT
  chmod +x "$script"
}

libraries_of() {
  apt-cache depends "$@" | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 != "libc6" { print $2 }' | sort -u
}

# One unreachable source among many is no reason to stop: if it matters, what follows fails.
update_lists() {
  as_root apt-get update -q || say "apt-get update failed; continuing with the existing package lists"
}

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }
