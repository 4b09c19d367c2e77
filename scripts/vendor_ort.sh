#!/usr/bin/env bash
# Fetch onnxruntime-web, which runs the networks in a browser, from its npm package into the folder of
# examples/browser, and check that it is what it was. Git ignores the folder: the WebAssembly is 14 MB.
# Does nothing where all of it is there. Needs npm and the network.    usage: scripts/vendor_ort.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.30.0
out=${1:-examples/browser/vendor}
sums="219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b  ort.wasm.min.mjs
e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b  ort-wasm-simd-threaded.mjs
3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2  ort-wasm-simd-threaded.wasm"

if [ -d "$out" ] && (cd "$out" && sha256sum --check --status <<<"$sums" 2>/dev/null); then
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
npm pack --silent --pack-destination "$folder" "onnxruntime-web@$version" >/dev/null
tar -xzf "$folder/onnxruntime-web-$version.tgz" -C "$folder" --strip-components 2 \
  package/dist/ort.wasm.min.mjs package/dist/ort-wasm-simd-threaded.mjs package/dist/ort-wasm-simd-threaded.wasm
(cd "$folder" && sha256sum --check --quiet <<<"$sums")
mkdir -p "$out"
mv "$folder"/ort*.mjs "$folder"/ort*.wasm "$out"
echo "$out: onnxruntime-web $version, $(du -sh "$out" | cut -f1)"
