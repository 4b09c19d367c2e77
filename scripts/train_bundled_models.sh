#!/usr/bin/env bash
# Train the bundled networks again, from the data to their cards: some hours on two cores.
#   scripts/train_bundled_models.sh [--smoke] [--data DIR] [RUNS]
# RUNS (runs) gets a folder `bundled` with one for each step. Stopped, the same command goes on where it was; a
# step whose folder is removed, or whose config says something else now, is done again, with all that builds on
# it. At the end the networks and their cards replace those in p2ch_luna/weights, and docs/cards is written anew.
#   --smoke  everything in minutes, with small networks that are of no use, in RUNS/bundled-smoke; nothing is
#            replaced
#   --data   the folder described in data/README.md, ../shared/data if left out
set -euo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
smoke="" data=../shared/data runs=""
while [ $# -gt 0 ]; do
  case $1 in
    --smoke) smoke=yes ;;
    --data) data=${2:?--data: wanted a folder}; shift ;;
    -h | --help) usage; exit ;;
    -*) echo "$1: no such option; wanted --smoke or --data DIR" >&2; exit 2 ;;
    *) if [ -n "$runs" ]; then echo "$1: wanted one folder for the runs" >&2; exit 2; fi; runs=$1 ;;
  esac
  shift
done
if [ ! -f configs/segmentation.toml ]; then
  echo "configs/segmentation.toml: no such file; wanted to be called where the repository is" >&2
  exit 2
fi

luna=${LUNA:-.venv/bin/luna}
work=${runs:-runs}/bundled${smoke:+-smoke}
into=${smoke:+$work/install/}  # where p2ch_luna/weights and docs/cards are
unseen=("$data/ct/lung1.mha" "$work/data/lidc-idri-0001/dicom")  # chests that no network was trained on
lidc=(--nodules "$data/lidc" --known data/hosts_excluded.csv)

# What --smoke changes: of each step its options.
tiny_segmentation=() tiny_second=() tiny_classifier=() tiny_malignancy=() tiny_folds=()
calibrate_size=(--folds 6 --copies 4) benchmark_size=(--folds 7-9 --copies 5)
robustness_size=(--folds 7-9 --copies 2)  # in 15 variants: seven times a benchmark
threshold=0.02  # lower than in the diagnosis: more for the classifier to learn from
places=8        # that each nodule is set into to be judged
if [ -n "$smoke" ]; then
  host="[\"$data/ct/lungfcp-01-0001.mha\"]" fold=(--set "data.train_folds=[0]")
  tiny=(--set loop.epochs=1 --set loop.workers=0 --set validation.samples=16 --set optim.warmup_steps=5
    --set optim.ema=0.9 --set "data.hosts=$host" --set "data.validation_hosts=$host"
    --set "data.shape_irc=[32, 32, 32]" --set data.cubes= --set data.cube_patients= --set sampling.cubes=0.0
    --set validation.scans=0)
  tiny_unet=("${tiny[@]}" "${fold[@]}" --set "model.widths=[16, 32, 48]" --set optim.lr=3e-3)
  tiny_segmentation=("${tiny_unet[@]}" --set loop.steps_per_epoch=200)
  tiny_second=("${tiny_unet[@]}" --set loop.steps_per_epoch=20)
  tiny_classifier=("${tiny[@]}" "${fold[@]}" --set loop.steps_per_epoch=10 --set sampling.vessels=0.0
    --set "model.widths=[8, 16]" --set "model.near_widths=[8]")
  tiny_folds=("${tiny[@]}" --set loop.steps_per_epoch=10 --set "model.widths=[8, 16]")
  tiny_malignancy=("${tiny_folds[@]}" "${fold[@]}")
  unseen=("$data/ct/lung1.mha")
  calibrate_size=(--folds 6 --copies 1 --count 10)
  benchmark_size=(--folds 7-9 --copies 1 --count 10)
  robustness_size=("${benchmark_size[@]}" --variant "slices of 3 mm" --variant "sharp kernel")
  places=1
fi

say() { echo "$(date +%H:%M:%S) $*" >&2; }

n_steps=$(grep -c '^step ' "$0") n_step=0 doing=""
trap '[ -z "$doing" ] || say "stopped in step $doing; the same command goes on there"' EXIT

anew() { # NAME WHY
  say "step $n_step/$n_steps, $1: $2; done anew"
  rm -rf "${work:?}/$1"
}

without_comments() { # CONFIG
  sed -E 's/(^|[[:space:]]+)#.*//; s/[[:space:]]+$//; /^$/d' "configs/$1"
}

# NAME FUNCTION [CONFIG.toml] [BEFORE...]: in a folder of that name, unless it is done with what the config says
# now, and no step BEFORE is newer. The folder's `begun` holds what the config said.
step() {
  local name=$1 what=$2 folder=$work/$1 start=$SECONDS says="" before
  shift 2
  n_step=$((n_step + 1))
  case ${1:-} in *.toml)
    says=$(without_comments "$1")
    if [ -d "$folder" ] && [ "$says" != "$(cat "$folder/begun" 2>/dev/null)" ]; then
      anew "$name" "configs/$1 has changed"
    fi
    shift ;;
  esac
  for before in "$@"; do
    [ ! -d "$folder" ] || [ ! "$folder/begun" -ot "$work/$before/done" ] || anew "$name" "$before is newer"
  done
  if [ -f "$folder/done" ]; then
    say "step $n_step/$n_steps, $name: done before"
    return
  fi
  say "step $n_step/$n_steps, $name"
  mkdir -p "$folder"
  [ -f "$folder/begun" ] || echo "$says" >"$folder/begun"
  doing=$name
  "$what" "$folder" >"$folder/said.txt"
  doing=""
  echo "$((SECONDS - start))" >"$folder/done"
}

config() { # NAME: the committed config, or a copy of it that names the data where they are
  if [ "$data" = ../shared/data ]; then
    echo "configs/$1"
    return
  fi
  mkdir -p "$work/configs"
  sed "s|\.\./shared/data/|$data/|g" "configs/$1" >"$work/configs/$1"
  echo "$work/configs/$1"
}

run_in() { # FOLDER: that of the training in it; nothing if there is none
  local run
  for run in "$1"/*-*/; do [ ! -f "${run}run.json" ] || echo "${run%/}"; done | tail -n 1
}

train_in() { # FOLDER CONFIG [OPTION...]: begin a run, or go on with the one that was stopped
  local folder=$1 run
  shift
  run=$(run_in "$folder")
  if [ -n "$run" ] && grep -Eq '"status": "(finished|stopped early)"' "$run/run.json"; then
    return
  elif [ -n "$run" ] && [ -f "$run/last.pt" ]; then
    "$luna" train --resume "$run"
  else
    "$luna" train "$@" --runs "$folder"
  fi
}

model() { # STEP: the weights that its run left
  echo "$(run_in "$work/$1")/model.safetensors"
}

copy_model() { # WEIGHTS FOLDER NAME: with the card
  cp "$1" "$2/$3.safetensors"
  cp "${1%.safetensors}.json" "$2/$3.json"
}

data_step() {
  "$luna" config check "$(config segmentation.toml)"
  [ -d "$1/lidc-idri-0001" ] || "$luna" example --from "$data/ct/lidc-idri-0001.zip" -o "$1"
}

segmentation_step() { train_in "$1" "$(config segmentation.toml)" "${tiny_segmentation[@]}"; }

# The hosts are backgrounds in training, of nodules that were set in: no other scans are there to mine.
mine_first_step() {
  "$luna" mine "$(run_in "$work/segmentation")" --also-trained -o "$1/candidates.csv"
}

segmentation_second_step() {
  train_in "$1" "$(config segmentation-second.toml)" "${tiny_second[@]}" \
    --set "start.init_from=$(run_in "$work/segmentation")" \
    --set "data.candidates=[\"$work/mine-first/candidates.csv\"]"
}

mine_step() {
  "$luna" mine "$(run_in "$work/segmentation-second")" --also-trained --threshold "$threshold" \
    -o "$1/candidates.csv"
}

classifier_step() {
  train_in "$1" "$(config nodule.toml)" "${tiny_classifier[@]}" \
    --set "data.candidates=[\"$work/mine-first/candidates.csv\", \"$work/mine/candidates.csv\"]" \
    --set "validation.segmentation=$(run_in "$work/segmentation-second")"
}

malignancy_step() { train_in "$1" "$(config malignancy.toml)" "${tiny_malignancy[@]}"; }

malignancy_folds_step() {
  LUNA=$luna PLACES=$places "$(dirname "$0")/malignancy_crossval.sh" "$1" "$(config malignancy.toml)" \
    "${tiny_folds[@]}"
}

# Nodules of the validation fold in chests that nobody trained on: so operating points are of unseen scans.
calibrate_step() {
  copy_model "$(model classifier)" "$1" nodule
  "$luna" calibrate "${unseen[@]}" "${lidc[@]}" "${calibrate_size[@]}" -o "$1" \
    --segmentation "$(model segmentation-second)" --model "$1/nodule.safetensors"
}

search() { # COMMAND [OPTION...]: with both networks
  "$luna" "$1" "${unseen[@]}" "${lidc[@]}" --segmentation "$(model segmentation-second)" \
    --classifier "$work/calibrate/nodule.safetensors" "${@:2}"
}

benchmark_step() { search benchmark "${benchmark_size[@]}" --pictures -o "$1"; }

robustness_step() { search robustness "${robustness_size[@]}" -o "$1"; }

cards_step() {
  copy_model "$(model segmentation-second)" "$1" segmentation
  copy_model "$work/calibrate/nodule.safetensors" "$1" nodule
  copy_model "$(model malignancy)" "$1" malignancy
  local name
  for name in segmentation nodule; do
    "$luna" card "$1/$name.safetensors" --add "$work/benchmark/benchmark.json" \
      --add "$work/robustness/robustness.json"
  done
  "$luna" card "$1/malignancy.safetensors" --add "$work/malignancy-folds/malignancy.json"
}

# All beside what they replace, then all renamed: a stop leaves no network beside the card of another.
install_step() {
  local weights=${into}p2ch_luna/weights pages=${into}docs/cards name file new=()
  mkdir -p "$weights" "$pages"
  for name in segmentation nodule malignancy; do
    new+=("$weights/$name.safetensors" "$weights/$name.json" "$pages/$name.md")
    for file in "$name.safetensors" "$name.json"; do cp "$work/cards/$file" "$weights/$file.new"; done
    "$luna" card "$work/cards/$name.safetensors" --markdown | sed "1s/.*/# The bundled $name network/" \
      >"$pages/$name.md.new"
  done
  for file in "${new[@]}"; do mv "$file.new" "$file"; done
}

step data data_step
step segmentation segmentation_step segmentation.toml data
step mine-first mine_first_step segmentation
step segmentation-second segmentation_second_step segmentation-second.toml segmentation mine-first
step mine mine_step segmentation-second
step classifier classifier_step nodule.toml segmentation-second mine-first mine
step malignancy malignancy_step malignancy.toml data
step malignancy-folds malignancy_folds_step malignancy.toml data
step calibrate calibrate_step classifier
step benchmark benchmark_step calibrate
step robustness robustness_step calibrate
step cards cards_step benchmark robustness malignancy malignancy-folds
step install install_step cards

echo "step                  seconds"
for name in $(sed -n 's/^step \([a-z-]*\) .*/\1/p' "$0"); do
  printf '%-20s %8d\n' "$name" "$(cat "$work/$name/done")"
done
echo "benchmark: $(head -n 1 "$work/benchmark/said.txt")"
bytes=$(cat "$work"/cards/*.safetensors | wc -c)
echo "$work/cards: three networks of $(((bytes + 500000) / 1000000)) MB with their cards"
if [ -n "$smoke" ]; then
  echo "smoke: everything ran; these networks are of no use, p2ch_luna/weights is as it was"
else
  echo "p2ch_luna/weights and docs/cards: these are there now"
fi
