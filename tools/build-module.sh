#!/usr/bin/env bash
# Builds the module that Envoy loads and finishes it:
#
#   tools/build-module.sh release
#   tools/build-module.sh trap --features trap
#
# The first word is cargo's profile; what follows it goes to cargo. The module names the commit that it
# was built from: WECOM_COMMIT, for sources without their git repository, else that of this checkout, if
# what the module is built from has no changes in it. Otherwise it names its version alone.
set -euo pipefail
cd "$(dirname "$0")/.."

inputs=(src Cargo.toml Cargo.lock tools/build-module.sh tools/cargo-wasm.sh tools/rustflags.sh
  tools/finish-module.py)

say() { echo "build-module: $*" >&2; }
die() { say "$@"; exit 1; }

main() {
  local profile=${1:?names a profile} commit
  shift
  commit=${WECOM_COMMIT:-$(commit_of_sources)}
  [[ $commit =~ ^([0-9a-f]{40}|[0-9a-f]{64})?$ ]] || die "WECOM_COMMIT is not a full commit: '$commit'"
  # Not set to nothing: to cargo that would be a change.
  unset WECOM_COMMIT
  if [[ -n $commit ]]; then
    export WECOM_COMMIT=$commit
  fi
  tools/cargo-wasm.sh build --profile "$profile" --target wasm32-wasip1 "$@"
  # On every build: if there was nothing to compile, cargo still puts its own file in this place again.
  python3 tools/finish-module.py "target/wasm32-wasip1/$profile/wecom_callback_filter.wasm" "$commit"
}

commit_of_sources() {
  # In a folder of a repository, this is a copy in a repository of something else.
  if [[ $(git rev-parse --show-prefix 2>/dev/null || echo none) != "" ]]; then
    say "no git checkout: the module names no commit"
  elif [[ -n $(git --no-optional-locks status --porcelain -- "${inputs[@]}") ]]; then
    say "there are changes that are not committed: the module names no commit"
  else
    git rev-parse HEAD
  fi
}

main "$@"
