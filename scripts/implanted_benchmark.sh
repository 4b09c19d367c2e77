#!/usr/bin/env bash
# Sensitivity on nodules implanted in scans that nothing was trained on.
#   scripts/implanted_benchmark.sh OUT [COPIES] [MIN_DIAMETER] [DATA]
# Nodules: 20 a scan, of the patients of folds 7 to 9 (no network has seen them). Hosts: lung1 and LIDC-IDRI-0001.
# Needs the data folder described in data/README.md; writes what `luna benchmark` writes, and OUT/score.txt.
set -euo pipefail

out=${1:?usage: scripts/implanted_benchmark.sh OUT [COPIES] [MIN_DIAMETER] [DATA]}
copies=${2:-2}
min_diameter=${3:-6}
data=${4:-../shared/data}
luna=${LUNA:-.venv/bin/luna}

mkdir -p "$out"
[ -d "$out/example" ] || "$luna" example --from "$data/ct/lidc-idri-0001.zip" -o "$out/example"
"$luna" benchmark "$data/ct/lung1.mha" "$out/example/lidc-idri-0001/dicom" --nodules "$data/lidc" --folds 7-9 \
  --count 20 --copies "$copies" --min-diameter "$min_diameter" --known data/hosts_excluded.csv \
  --output "$out" | tee "$out/score.txt"
