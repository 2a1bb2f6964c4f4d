#!/usr/bin/env bash
# Brings curl along as Debian's package where it is missing: the tests run the commands of docs/backend.md.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup-curl: $*" >&2; }
die() { say "$*"; exit 1; }

# shellcheck source=tools/debian.sh
. tools/debian.sh

command -v curl >/dev/null || install_missing curl
