#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, sources, duplicates, known vulnerabilities.
# The list of vulnerabilities is fetched each time. Where that fails, the other checks still run, and
# the end of the output says what was not checked.
set -euo pipefail
cd "$(dirname "$0")/.."

deny() { target/tools/bin/cargo-deny "$@"; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }

loudly() {
  printf '\n%s\n' "######################################################################"
  printf '# %s\n' "$@"
  printf '%s\n\n' "######################################################################"
}

echo "== everything, tests included"
deny --workspace check --hide-inclusion-graph --allow duplicate bans licenses sources
echo "== the module"
deny --exclude-dev --target wasm32-wasip1 check --allow license-not-encountered bans licenses sources

echo "== the command: nothing of what starts Envoy and Redis for tests"
if cargo tree --locked --package wecom-callbacks --edges normal --prefix none | grep -E '^(testbed|redis|tempfile) '; then
  echo "check-dependencies: wecom-callbacks depends on this without its feature demo" >&2
  exit 1
fi

echo "== advisories"
if reason=$(within 120 target/tools/bin/cargo-deny fetch db 2>&1); then
  deny --workspace check advisories
else
  echo "$reason" >&2
  loudly "ADVISORIES NOT CHECKED: the database cannot be fetched." \
    "Whether a dependency has a known vulnerability is unknown. The other" \
    "checks have passed. Run \`make check\` again with access to github.com."
fi
