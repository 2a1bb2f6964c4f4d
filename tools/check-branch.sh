#!/usr/bin/env bash
# Fails unless the commit that is checked out is one of origin's branch main, from which alone releases are made.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "check-branch: $*" >&2; exit 1; }

[[ $(git rev-parse --is-shallow-repository) == false ]] || die "this checkout has no history: fetch all of it"
git rev-parse --verify --quiet origin/main >/dev/null || die "this checkout has no origin/main: fetch it"
git merge-base --is-ancestor HEAD origin/main ||
  die "$(git rev-parse HEAD) is not in the history of origin/main: land it first, and tag it there"
