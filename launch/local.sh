#!/usr/bin/env bash
# Do the runs of a manifest on this machine, several at a time.
#   launch/local.sh STUDY_FOLDER/manifest.jsonl [RUNS_AT_ONCE]
# A killed or failed run does not stop the others; the same command goes on where this one stopped.
set -euo pipefail
manifest=${1:?usage: launch/local.sh MANIFEST [RUNS_AT_ONCE]}
at_once=${2:-1}
last=$(($(wc -l <"$manifest") - 1))
seq 0 "$last" | xargs -P "$at_once" -I '{}' "${LOSSLINE:-lossline}" run --manifest "$manifest" --index '{}'
