#!/usr/bin/env bash
# Pictures of a run's TensorBoard pages, taken in a headless Chromium, for docs/images/.
#   scripts/screenshot_tensorboard.sh RUN OUT
set -euo pipefail

run=${1:?wanted: RUN OUT}
out=${2:?wanted: RUN OUT}
port=${PORT:-6123}
bin=.venv/bin

mkdir -p "$out"
"$bin/tensorboard" --logdir "$run" --port "$port" --load_fast=false 2>"$out/.tensorboard.log" &
board=$!
trap 'kill "$board"; rm -f "$out/.tensorboard.log"' EXIT
until curl --silent --fail "http://localhost:$port/data/runs" | grep -q '\.'; do
  kill -0 "$board" || { cat "$out/.tensorboard.log" >&2; exit 1; }
  sleep 1
done
sleep 5 # until all of the events are read

shot() { # NAME HEIGHT PAGE
  chromium --headless=new --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --hide-scrollbars \
    --window-size="1500,$2" --virtual-time-budget=30000 --screenshot="$out/tensorboard-$1.png" \
    "http://localhost:$port/#$3" 2>/dev/null
  echo "$out/tensorboard-$1.png"
}
shot scalars 1000 'scalars&_smoothingWeight=0&tagFilter=%5E(validation%2F(dice%7Csens%7Cf1)%7Cscans%2F)'
shot training 1000 'scalars&_smoothingWeight=0&tagFilter=%5E(train%7Csteps)%2F'
shot images 1000 'images&tagFilter=froc%7Chits%7Cmisses%7Cpositives%7Ccalibration%7Croc'
shot pr 700 'pr_curves'
shot histograms 800 'histograms'
shot hparams 700 'hparams'
shot text 900 'text'
