#!/usr/bin/env bash
# Sensitivity on nodules implanted in scans that nothing was trained on.
#   scripts/implanted_benchmark.sh OUT [COPIES] [MIN_DIAMETER] [DATA]
# Nodules: 20 a scan, of the patients of folds 7 to 9 (no network has seen them). Hosts: lung1 and LIDC-IDRI-0001.
# Needs the data folder described in data/README.md; writes OUT/all-detections.csv and OUT/score.txt.
set -euo pipefail

out=${1:?usage: scripts/implanted_benchmark.sh OUT [COPIES] [MIN_DIAMETER] [DATA]}
copies=${2:-2}
min_diameter=${3:-6}
data=${4:-../shared/data}
luna=${LUNA:-.venv/bin/luna}

mkdir -p "$out"
[ -d "$out/example" ] || "$luna" example --from "$data/ct/lidc-idri-0001.zip" -o "$out/example"
for host in "$data/ct/lung1.mha" "$out/example/lidc-idri-0001/dicom"; do
  for seed in $(seq 1 "$copies"); do
    one="$out/$(basename "$(dirname "$host")")-$(basename "$host" .mha)-$seed"
    [ -d "$one" ] || "$luna" implant "$host" --nodules "$data/lidc" --folds 7-9 --count 20 \
      --min-diameter "$min_diameter" --known data/hosts_excluded.csv --seed "$seed" --output "$one"
    "$luna" diagnose "$one"/*.mhd --output "$one/out"
  done
done
for table in detections annotations annotations_excluded; do
  find "$out" -mindepth 2 -name "$table.csv" -not -path "*/example/*" -print0 | sort -z |
    xargs -0 awk 'FNR > 1 || NR == 1' > "$out/all-$table.csv"
done
"$luna" evaluate "$out/all-detections.csv" --truth "$out/all-annotations.csv" \
  --excluded "$out/all-annotations_excluded.csv" | tee "$out/score.txt"
