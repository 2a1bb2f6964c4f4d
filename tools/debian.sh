# Sourced by the scripts that need Debian packages. They define `say` and `die`.
# shellcheck shell=bash

install_missing() {
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local as_root=()
  ((EUID == 0)) || as_root=(sudo -n)
  say "installing Debian's ${missing[*]}"
  {
    # One unreachable source among many is no reason to stop: if it matters, the install fails.
    "${as_root[@]}" apt-get update -q || say "apt-get update failed; continuing with the existing package lists"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } </dev/null >&2 || die "could not install ${missing[*]}; as root: apt-get install ${missing[*]}"
}
