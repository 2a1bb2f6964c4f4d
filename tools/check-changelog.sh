#!/usr/bin/env bash
# Checks that CHANGELOG.md is ready for a release, and prints what it says about it:
#
#   tools/check-changelog.sh v0.2.0 [CHANGELOG.md]
#
# The tag must be `v` and the version in Cargo.toml. That version must have an entry, and nothing may
# still stand under [Unreleased]: it would be released without being told.
set -euo pipefail
file=$(realpath "${2:-"$(dirname "$0")/../CHANGELOG.md"}")
cd "$(dirname "$0")/.."

die() { echo "check-changelog: $*" >&2; exit 1; }

# The lines under the heading `## [NAME]`, without blank ones at either end.
entry() {
  awk -v heading="## [$1]" '
    /^## / { inside = substr($0, 1, length(heading)) == heading; next }
    inside && (NF || text != "") { text = text $0 "\n" }
    END { sub(/\n+$/, "", text); if (text != "") print text }
  ' "$file"
}

tag=${1:?names the tag}
version=$(cargo pkgid --package wecom-callback-filter)
version=${version##*[#@]}
[[ $tag == "v$version" ]] || die "the tag is $tag, but the version in Cargo.toml is $version"
notes=$(entry "$version")
[[ -n $notes ]] || die "CHANGELOG.md has no entry [$version]: what stands under [Unreleased] belongs there"
[[ -z $(entry Unreleased) ]] || die "CHANGELOG.md has lines under [Unreleased]: move them to [$version]"
echo "$notes"
