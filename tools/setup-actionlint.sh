#!/usr/bin/env bash
# Installs actionlint as target/tools/bin/actionlint, for the test of the workflow files: the one in PATH,
# or built by Go.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.7.12
bin=target/tools/bin

say() { echo "setup-actionlint: $*" >&2; }

mkdir -p $bin
[[ ! -x $bin/actionlint ]] || exit 0

if found=$(command -v actionlint); then
  ln -sfn "$found" $bin/actionlint
elif ! command -v go >/dev/null; then
  say "NO ACTIONLINT: neither actionlint nor Go is installed; the test of the workflows reports that it is skipped"
elif ! GOBIN=$PWD/$bin go install "github.com/rhysd/actionlint/cmd/actionlint@v$version" </dev/null >&2; then
  say "NO ACTIONLINT: Go could not install v$version"
  [[ ${CI:-} != true ]]
fi
