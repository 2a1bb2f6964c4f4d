#!/usr/bin/env bash
# Installs the vendors' servers that `make bench` compares the filter with, into target/tools/vendors:
# the libraries of the one in Python, by hash, in an environment of its own, and the one in Go, compiled.
# The one in Node needs what setup-npm installs, and nothing else. A language that this machine lacks is
# left out: the bench says so, and measures the others.
set -euo pipefail
cd "$(dirname "$0")/.."

source=bench/vendors
own=target/tools/vendors

say() { echo "setup-vendors: $*" >&2; }

python() {
  command -v python3 >/dev/null || { say "NO PYTHON: python3 is missing"; return; }
  # The copy of what was installed comes last: it marks the work as done.
  ! cmp -s $source/python/requirements.txt $own/python/installed.txt || return 0
  rm -rf $own/python
  if python3 -m venv $own/python >&2 &&
    $own/python/bin/pip install --quiet --require-hashes --requirement $source/python/requirements.txt </dev/null >&2; then
    cp $source/python/requirements.txt $own/python/installed.txt
  else
    rm -rf $own/python
    say "NO PYTHON: its libraries could not be installed"
  fi
}

go_server() {
  command -v go >/dev/null || { say "NO GO: go is missing"; return; }
  # Its own go.sum pins what it fetches; nothing is compiled again without a change.
  CGO_ENABLED=0 go build -C $source/go -mod=readonly -trimpath -o "$PWD/$own/go-server" . </dev/null >&2 || {
    rm -f $own/go-server
    say "NO GO: its server could not be compiled"
  }
}

mkdir -p $own
tools/setup-npm.sh || say "NO NODE: its library could not be installed"
python
go_server
