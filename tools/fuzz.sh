#!/usr/bin/env bash
# Searches for inputs that break a promise of fuzz/src/lib.rs: with every target, or those named,
# for FUZZ_SECONDS each. What the search learns stays in fuzz/corpus and is where the next one
# begins; what it finds is left in fuzz/artifacts, and the end says how to run it again.
#
#   FUZZ_SECONDS=600           seconds for each target, 60 by default
#   FUZZ_SANITIZER=address     with a sanitizer, which needs a nightly compiler; none by default,
#                              since `unsafe` is forbidden here and speed finds more
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PATH=$root/target/tools/bin:$PATH CARGO_TARGET_DIR=$root/fuzz/target
seconds=${FUZZ_SECONDS:-60}
sanitizer=${FUZZ_SANITIZER:-none}

say() { echo "fuzz: $*" >&2; }

command -v "${CXX:-c++}" >/dev/null || { say "needs a C++ compiler, to build libFuzzer"; exit 1; }

seeds=$CARGO_TARGET_DIR/seeds
rm -rf "$seeds"
# Says the names of all targets.
names=$(cargo run --quiet --manifest-path fuzz/Cargo.toml --no-default-features --example seeds -- "$seeds")
cargo fuzz build --sanitizer "$sanitizer"

targets=("$@")
((${#targets[@]})) || mapfile -t targets <<<"$names"
failed=()
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  # One program holds all targets.
  export FUZZ_TARGET=$target
  log=$CARGO_TARGET_DIR/$target.log
  # The corpus is named first: it is the one that grows.
  if cargo fuzz run --sanitizer "$sanitizer" any "fuzz/corpus/$target" "$seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -dict="$root/fuzz/dictionary.txt" \
    -artifact_prefix="$root/fuzz/artifacts/$target/" >"$log" 2>&1 </dev/null; then
    say "$target: $(grep -a 'DONE ' "$log" | tail -n 1 | tr '\t' ' ')"
  else
    grep -a -m 1 -A 6 'panicked at' "$log" >&2 || tail -n 40 "$log" >&2
    found=$(grep -a -o "fuzz/artifacts/$target/[a-z0-9-]*" "$log" | tail -n 1 || true)
    say "$target: BROKEN, see fuzz/target/$target.log; to reproduce:"
    say "  PATH=target/tools/bin:\$PATH FUZZ_TARGET=$target cargo fuzz run --sanitizer $sanitizer any $found"
    failed+=("$target")
  fi
done
((!${#failed[@]})) || { say "broken: ${failed[*]}"; exit 1; }
