#!/usr/bin/env bash
# Installs PyPI's wechatpy and what it needs into target/tools/python, for the conformance tests.
# Versions and hashes are pinned in tests/conformance/python.
set -euo pipefail
cd "$(dirname "$0")/.."

source=tests/conformance/python/requirements.txt
own=target/tools/python

say() { echo "setup-pip: $*" >&2; }

# The folder is moved into place last: where it is, it is complete.
if cmp -s $source $own/requirements.txt && PYTHONPATH=$own python3 -c 'import wechatpy.enterprise.crypto' 2>/dev/null; then
  exit 0
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
  say "NO PYTHON CLIENT: no python3 with pip (Debian: python3-pip)"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the test of wechatpy will report that it is skipped"
  exit 0
fi
say "fetching wechatpy"
rm -rf $own $own.part
python3 -m pip install -q --no-input --disable-pip-version-check --root-user-action ignore --only-binary :all: \
  --no-compile --no-deps --require-hashes --target $own.part -r $source </dev/null >&2
cp $source $own.part/
mv $own.part $own
