#!/usr/bin/env bash
# Runs Envoy with envoy.yaml, and beside it the stand-in backend that decides about binds, for
# `make run`. When one of them ends, or on Ctrl-C, both do.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=$PWD/target

if [[ -z ${WECOM_TOKEN:-} ]]; then
  # Public, so only good for trying things out on this machine.
  export WECOM_TOKEN=demoToken
  export WECOM_ENCODING_AES_KEY=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFA
  credentials="export WECOM_TOKEN=$WECOM_TOKEN WECOM_ENCODING_AES_KEY=$WECOM_ENCODING_AES_KEY"
else
  : "${WECOM_ENCODING_AES_KEY:?must be set along with WECOM_TOKEN}"
  credentials="export WECOM_TOKEN and WECOM_ENCODING_AES_KEY there as here"
fi

cargo build --quiet --package wecom-callbacks

cat <<TEXT

  listener      http://127.0.0.1:10000/suite/receive
  admin         http://127.0.0.1:9901
  metrics       http://127.0.0.1:9901/stats/prometheus?filter=wecom&usedonly
  access log    below, one line of JSON per request

  In another terminal, in this folder:

  first         $credentials
  a callback    target/debug/wecom-callbacks send http://127.0.0.1:10000/suite/receive
  refused       the same with --device-sn sn-refuse-4 at its end
  unanswered    with --device-sn sn-hang
  URL check     with --type verify-url
  others        target/debug/wecom-callbacks send --help; target/debug/wecom-callbacks backend --help
  outcomes      docs/outcomes.md explains each

  Press Ctrl-C to stop.

TEXT

pids=()
stop() {
  trap - EXIT
  # By pid: Ctrl-C does not reach a script's background processes.
  kill "${pids[@]}" 2>/dev/null || true
  wait
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

target/debug/wecom-callbacks backend &
pids+=($!)
envoy=(target/tools/bin/envoy)
if [[ -x target/tools/bin/func-e ]]; then
  export ENVOY_PATH=$PWD/target/tools/bin/envoy
  envoy=(target/tools/bin/func-e run)
fi
"${envoy[@]}" -c envoy.yaml --log-level warning --component-log-level wasm:info &
pids+=($!)
# Not in the foreground: the shell would handle a signal only after Envoy has ended.
wait -n "${pids[@]}"
