#!/usr/bin/env bash
# Fetches the jars of each pom.xml below into target/tools/java, for the tests that run Java. Their hashes
# are pinned in jars.sha256 beside the pom. Brings a JDK and Maven along as Debian's packages where they
# are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

sources=(tests/conformance/java examples/backend/java)
tools=target/tools/java

say() { echo "setup-maven: $*" >&2; }
die() { say "$*"; exit 1; }
is_there() { command -v java && command -v javac && command -v mvn; } >/dev/null

# shellcheck source=tools/debian.sh
. tools/debian.sh

fetch() {
  local source=$1 own=$2
  # The folder is moved into place last: where it is, it is complete.
  if cmp -s "$source/pom.xml" "$own/pom.xml" && cmp -s "$source/jars.sha256" "$own/jars.sha256"; then
    return
  fi
  say "fetching the jars of $source/pom.xml"
  rm -rf "$own" "$own.part"
  mkdir -p "$own.part"
  mvn -q -B -C -Dstyle.color=never -f "$source/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$PWD/$own.part" </dev/null >&2
  diff <(cd "$own.part" && sha256sum -- *.jar) "$source/jars.sha256" >&2 || die "the jars are not those of $source/jars.sha256"
  cp "$source/pom.xml" "$source/jars.sha256" "$own.part/"
  mv "$own.part" "$own"
}

if ! is_there && ! (command -v apt-get >/dev/null && install_missing default-jdk-headless maven && is_there); then
  say "NO JAVA: no JDK with Maven (Debian: default-jdk-headless, maven)"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that run Java will report that they are skipped"
  exit 0
fi
mkdir -p $tools
for source in "${sources[@]}"; do
  fetch "$source" "$tools/$(basename "$(dirname "$source")")"
done
