#!/usr/bin/env bash
# Fetches into target/tools/schemas what the files in deploy/ are checked against: the JSON schema of
# Compose files, and the CRDs of Istio, Envoy Gateway and the Gateway API. They are files of Go modules,
# which Go checks against its checksum database; nothing of them is compiled or run.
set -euo pipefail
cd "$(dirname "$0")/.."

# The module at its version, and the file or folder wanted of it.
wanted=(
  github.com/compose-spec/compose-go/v2@v2.16.2 schema/compose-spec.json
  istio.io/api@v1.31.4 kubernetes/customresourcedefinitions.gen.yaml
  github.com/envoyproxy/gateway@v1.9.1 charts/gateway-helm/charts/crds/crds/generated
  sigs.k8s.io/gateway-api@v1.6.1 config/crd/standard
)
schemas=target/tools/schemas

say() { echo "setup-schemas: $*" >&2; }

fetch() {
  rm -rf $schemas.part
  mkdir -p $schemas.part
  local i folder
  for ((i = 0; i < ${#wanted[@]}; i += 2)); do
    folder=$(cd /tmp && go mod download -json "${wanted[i]}" </dev/null | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || return 1
    [[ -e $folder/${wanted[i + 1]} ]] || return 1
    cp -r "$folder/${wanted[i + 1]}" $schemas.part/
  done
  chmod -R u+w $schemas.part
  # Last: it marks the work as done.
  printf '%s\n' "${wanted[@]}" >$schemas.part/versions
  rm -rf $schemas
  mv $schemas.part $schemas
}

! cmp -s <(printf '%s\n' "${wanted[@]}") $schemas/versions || exit 0

if ! command -v go >/dev/null; then
  say "NO SCHEMAS: Go is not installed; the tests that need them will report that they are skipped"
elif ! fetch; then
  say "NO SCHEMAS: Go could not fetch them; the tests that need them will report that they are skipped"
  [[ ${CI:-} != true ]]
fi
