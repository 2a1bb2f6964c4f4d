#!/usr/bin/env bash
# Installs redis-server as target/tools/bin/redis-server, for the tests of records that replicas share:
# the one in PATH, or Debian's. Debian's packages are only unpacked, since installing redis-server would
# start a service.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/debian.sh

bin=target/tools/bin
own=target/tools/redis

say() { echo "setup-redis: $*" >&2; }
works() { [[ -x $1 ]] && "$1" --version >/dev/null 2>&1; }

# The program itself is in redis-tools; of the packages' libraries, some are seldom installed.
from_debian() { unpack_packages $own 1 redis-server redis-tools && script_for $own/redis-server redis-server; }

mkdir -p $bin
! works $bin/redis-server || exit 0

if found=$(command -v redis-server) && works "$found"; then
  ln -sfn "$found" $bin/redis-server
elif works $own/redis-server || from_debian; then
  ln -sfn ../redis/redis-server $bin/redis-server
fi
works $bin/redis-server || {
  say "redis-server not found. Install it into PATH"
  [[ ${CI:-} != true ]] || exit 1
  say "continuing without: the tests that need it will report that they are skipped"
}
