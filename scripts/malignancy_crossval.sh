#!/usr/bin/env bash
# Malignancy cross-validated by patient: five networks, each trained without two of LIDC's ten folds, judge every
# nodule once.
#   scripts/malignancy_crossval.sh OUT [CONFIG [OPTION of `luna train`]...]
# OUT/folds-0-1 … hold the runs; OUT gets what `luna malignancy` writes, and said.txt. Stopped, the same command
# goes on where it was; another CONFIG needs another OUT. PLACES: that each nodule is set into. About 15 minutes on
# two cores.
set -euo pipefail

out=${1:?usage: scripts/malignancy_crossval.sh OUT [CONFIG [OPTION of luna train]...]}
config=${2:-configs/malignancy.toml}
shift "$(($# < 2 ? $# : 2))"
luna=${LUNA:-.venv/bin/luna}

say() { echo "$(date +%H:%M:%S) $*" >&2; }

run_in() { # FOLDER: that of the training in it; nothing if there is none
  local run
  for run in "$1"/*-*/; do [ ! -f "${run}run.json" ] || echo "${run%/}"; done | tail -n 1
}

train_without() { # A B [OPTION...]: the folds A and B validate, the others train
  local a=$1 b=$2 folder=$out/folds-$1-$2 run others="" fold
  shift 2
  run=$(run_in "$folder")
  if [ -n "$run" ] && grep -Eq '"status": "(finished|stopped early)"' "$run/run.json"; then
    say "folds $a and $b: trained before"
  elif [ -n "$run" ] && [ -f "$run/last.pt" ]; then
    say "folds $a and $b: $run goes on"
    "$luna" train --resume "$run" >/dev/null
  else
    say "folds $a and $b"
    for fold in 0 1 2 3 4 5 6 7 8 9; do
      [ "$fold" = "$a" ] || [ "$fold" = "$b" ] || others="$others, $fold"
    done
    "$luna" train "$config" --set "data.train_folds=[${others#, }]" --set "data.validation_folds=[$a, $b]" "$@" \
      --runs "$folder" >/dev/null
  fi
}

runs=()
for a in 0 2 4 6 8; do
  train_without "$a" $((a + 1)) "$@"
  runs+=("$(run_in "$out/folds-$a-$((a + 1))")")
done
say "judging"
mkdir -p "$out"
"$luna" malignancy "${runs[@]}" --places "${PLACES:-4}" --output "$out" | tee "$out/said.txt"
