#!/usr/bin/env bash
# Do training and diagnosis run on the GPU here, and how fast? The tests marked gpu, then a short timed
# training and a few diagnoses, by the GPU and by the CPU.
#   scripts/gpu_check.sh [STEPS]
# Prints samples a second, memory and utilisation, and the seconds of a diagnosis; needs no data. Without a GPU
# it says so and exits with 0.
set -euo pipefail
cd "$(dirname "$0")/.."

steps=${1:-80}
python=.venv/bin/python
[ -x "$python" ] || python=python

there=$("$python" -c '
import torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "", "torch", torch.__version__, sep="|")')
if [ -z "${there%%|*}" ]; then
  echo "no CUDA device is found by ${there#*|}: nothing to check" | tr '|' ' '
  exit 0
fi
echo "$there" | tr '|' ' '

failed=0
"$python" -m pytest -q -m gpu tests/gpu || failed=$?

watched=$(mktemp)
watcher=""
trap 'if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null || true; fi; rm -f "$watched"' EXIT
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits --loop-ms=200 >"$watched" &
  watcher=$!
fi
"$python" -m p2ch_luna bench train --device cuda --steps "$steps" --memory-steps 200 || failed=$?
if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null || true; wait "$watcher" || true; watcher=""; fi
if [ -s "$watched" ]; then
  awk -F ', *' '
    { sum += $1; if ($1 > busiest) busiest = $1; if ($2 > most) most = $2 }
    END {
      printf "nvidia-smi, the bench from start to end: GPU busy for %.0f %% of the time, ", sum / NR
      printf "%d %% at most; %d MiB of its memory in use at most\n", busiest, most
    }' "$watched"
else
  echo "utilisation and memory by nvidia-smi: it is not here"
fi
"$python" -m p2ch_luna bench diagnose --runs 3 || failed=$?
exit "$failed"
