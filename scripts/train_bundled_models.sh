#!/usr/bin/env bash
# Train the bundled networks again: about two hours on two cores. Needs the data of data/README.md.
#   scripts/train_bundled_models.sh [RUNS]
set -euo pipefail

runs=${1:-runs}
luna=${LUNA:-.venv/bin/luna}

segmentation=$("$luna" train configs/segmentation.toml --runs "$runs")
# The hosts are backgrounds in training, of nodules that were set in: no other scans are there to mine.
"$luna" mine "${segmentation%/*}" --config configs/nodule.toml --also-trained \
  --output data/scans/candidates.csv
nodule=$("$luna" train configs/nodule.toml --runs "$runs")
for part in safetensors json; do
  cp "${segmentation%.safetensors}.$part" "p2ch_luna/weights/segmentation.$part"
  cp "${nodule%.safetensors}.$part" "p2ch_luna/weights/nodule.$part"
done
echo "p2ch_luna/weights: replaced by $segmentation and $nodule"
