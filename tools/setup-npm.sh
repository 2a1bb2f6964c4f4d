#!/usr/bin/env bash
# Installs the protocol's reference implementation, npm's @wecom/crypto, into
# target/tools/node_modules: the conformance tests compare this project's signatures and ciphers with
# it. Its version and hash are pinned in tests/conformance/node.
set -euo pipefail
cd "$(dirname "$0")/.."

source=tests/conformance/node
tools=target/tools

command -v npm >/dev/null || { echo "setup-npm: needs Node 20 or later with npm" >&2; exit 1; }
mkdir -p $tools
# The lock file is copied last, after a successful install: it marks the work as done.
if [[ -d $tools/node_modules/@wecom/crypto ]] && cmp -s $source/package-lock.json $tools/package-lock.json.installed; then
  exit 0
fi
cp $source/package.json $source/package-lock.json $tools/
npm ci --prefix $tools --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2
cp $source/package-lock.json $tools/package-lock.json.installed
