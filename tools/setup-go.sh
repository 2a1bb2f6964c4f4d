#!/usr/bin/env bash
# Fetches Go's github.com/silenceper/wechat/v2 and what it needs, for the conformance tests. Versions and
# hashes are pinned in tests/conformance/go. Brings Go along as Debian's package where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

source=tests/conformance/go

say() { echo "setup-go: $*" >&2; }
die() { say "$*"; exit 1; }
is_there() { command -v go >/dev/null; }

# shellcheck source=tools/debian.sh
. tools/debian.sh

if ! is_there && ! (command -v apt-get >/dev/null && install_missing golang-go && is_there); then
  say "NO GO: none is installed (Debian: golang-go)"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that run Go will report that they are skipped"
  exit 0
fi
# Quick where everything is there; go compares with go.sum.
cd $source && GOFLAGS=-mod=readonly go build -o /dev/null . </dev/null >&2
