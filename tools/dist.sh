#!/usr/bin/env bash
# Puts a release together, for `make dist`, from the module that `make build` has made:
#
#   tools/dist.sh [FOLDER] [COMMAND]
#
# FOLDER is dist, otherwise; a release that is in it is removed. COMMAND is a program that stands in for the command,
# for tests; otherwise the command is built, which takes minutes. docs/release.md says what comes out.
#
# The same commit and tools make the same bytes: everything in it is as old as the commit
# (SOURCE_DATE_EPOCH, where there is no git checkout), sorted, and names neither owner nor folder.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C TZ=UTC

module=target/wasm32-wasip1/release/wecom_callback_filter.wasm
# What is shipped as it is in the repository. The pages are there because deploy/ and each other link to them.
files=(config.schema.json envoy.yaml LICENSE README.md README.zh-CN.md CHANGELOG.md CONTRIBUTING.md SECURITY.md)
folders=(deploy docs examples)

say() { echo "dist: $*" >&2; }
die() { say "$@"; exit 1; }

main() {
  local folder=${1:-dist} command=${2:-} version commit name target=x86_64-unknown-linux-musl
  [[ -f $module ]] || die "$module is missing: run \`make build\`"
  version=$(cargo pkgid --package wecom-callback-filter)
  version=${version##*[#@]}
  name=wecom-callback-filter-$version
  commit=$(commit_of_everything)
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
  if [[ -z $command ]]; then
    command=$(tools/build-cli.sh)
    target=$(cut -d / -f 2 <<<"$command")
  fi

  # Nobody's folder is emptied by mistake.
  [[ ! -e $folder || -f $folder/SHA256SUMS ]] || rmdir "$folder" 2>/dev/null ||
    die "$folder is there, and is no release: remove it yourself"
  rm -rf "$folder"
  mkdir -p "$folder"
  install -m 644 "$module" "${files[@]}" "$folder"
  install -m 755 "$command" "$folder/wecom-callbacks"
  cp -R "${folders[@]}" "$folder"
  name_the_module_here "$folder"
  tools/sbom.py "$folder" "$target"
  tools/licenses.py "$folder"
  built_with "$version" "$commit" "$target" "$command" >"$folder/BUILD"
  compare_compilers
  chmod -R u=rwX,go=rX "$folder"
  python3 tools/oci-image.py "$module" "$folder/$name.oci.tar" --version "$version" --commit "$commit"
  pack "$folder" "$name"
  find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$folder" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
  chmod 644 "$folder"/*.tar* "$folder/SHA256SUMS"
  touch -d "@$SOURCE_DATE_EPOCH" "$folder/SHA256SUMS" "$folder"
  cat "$folder/SHA256SUMS"
}

# The module lies at the root, where Envoy is started; `make build` puts it elsewhere.
name_the_module_here() {
  find "$1/envoy.yaml" "$1/deploy" "$1/docs" -type f \( -name '*.yaml' -o -name '*.md' \) -print0 |
    xargs -0 sed -i -E "s,(^|[ =]|\./)${module//./\\.},\1${module##*/},"
}

# Nothing if anything differs from the commit, or if there is no checkout.
commit_of_everything() {
  if [[ -n ${WECOM_COMMIT:-} ]]; then
    echo "$WECOM_COMMIT"
  elif [[ $(git rev-parse --show-prefix 2>/dev/null || echo none) != "" ]]; then
    say "no git checkout: the release names no commit"
  elif [[ -n $(git --no-optional-locks status --porcelain) ]]; then
    say "there are changes that are not committed: the release names no commit"
  else
    git rev-parse HEAD
  fi
}

# What must be the same for the same bytes to come out.
built_with() {
  local version=$1 commit=$2 target=$3 command=$4
  echo "version: $version"
  echo "commit: ${commit:-unknown}"
  echo "date: $(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ) (SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH)"
  echo "module: wasm32-wasip1, $(tools/cargo-wasm.sh rustc-version --target wasm32-wasip1)"
  echo "command: $target, $(compilers "$command")"
  echo "lists: cargo-cyclonedx $(target/tools/bin/cargo-cyclonedx cyclonedx --version | awk '{ print $NF }')"
  echo "archives: $(tar --version | head -n 1), $(gzip --version | head -n 1)," \
    "zlib $(python3 -c 'import zlib; print(zlib.ZLIB_RUNTIME_VERSION)')"
}

# Says what has compiled, and whether that makes the files of a published release.
compare_compilers() {
  local release module command
  release=$(<tools/release-rust-version)
  module=$(tools/cargo-wasm.sh rustc-version --target wasm32-wasip1)
  command=$("${RUSTC:-rustc}" --version)
  say "the module is by $module; the command by $command"
  if [[ $module != "rustc $release "* || $module == *source* || $command != "rustc $release "* ]]; then
    printf '%s\n' "####################" "# NOT THE RELEASE'S COMPILER, which is rustc $release of rustup." \
      "# These files differ from those that are published: RUSTUP_TOOLCHAIN=$release make dist" "####################" >&2
  fi
}

# Every compiler and linker leaves its name in a program.
compilers() {
  local names
  names=$(readelf -p .comment "$1" 2>/dev/null | sed -n 's/^ *\[ *[0-9a-f]*\] *//p' | paste -sd , | sed 's/,/, /g')
  echo "${names:-unknown}"
}

# Everything so far but the image, in one archive.
pack() {
  local folder=$1 name=$2
  (cd "$folder" && tar -c --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
    --numeric-owner --exclude='*.tar' --exclude='*.tar.gz' --transform "s,^\.,$name," .) |
    gzip -n -9 >"$folder.part"
  mv "$folder.part" "$folder/$name.tar.gz"
}

main "$@"
