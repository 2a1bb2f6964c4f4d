#!/usr/bin/env bash
# Installs func-e as target/tools/bin/func-e: the one in PATH, or built by Go. The tests start Envoy
# through it as an operator would, or directly where it is not available. In CI with Go installed, a
# missing func-e is an error, so that this way of starting does not go untested unnoticed.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.6.0 # the first that lets ENVOY_PATH name the binary and leaves the network alone
link=target/tools/bin/func-e

say() { echo "setup-func-e: $*" >&2; }
is_usable() {
  local found
  found=$("$1" --version 2>/dev/null) || return 1
  # A build by Go calls itself "dev".
  [[ $found == *dev || $(printf '%s\n' "$version" "${found##* }" | sort -V | head -n 1) == "$version" ]]
}

mkdir -p target/tools/bin
[[ ! -x $link ]] || exit 0

if found=$(command -v func-e) && is_usable "$found"; then
  ln -sfn "$found" $link
elif ! command -v go >/dev/null; then
  say "NO FUNC-E: neither func-e nor Go is installed; the tests start Envoy directly"
elif ! GOBIN=$PWD/target/tools/bin go install "github.com/tetratelabs/func-e/cmd/func-e@v$version" </dev/null >&2; then
  say "NO FUNC-E: Go could not install v$version; the tests start Envoy directly"
  [[ ${CI:-} != true ]]
fi
