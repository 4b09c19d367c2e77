#!/usr/bin/env bash
# Make p2ch_luna/report/html/static/niivue.umd.js.gz again from the npm package, and check that it is what it was.
# One call is changed: gradients of the volume, which only 3-D rendering reads. Without them a change of window
# takes a graphics card a third of the memory, and a computer without one a tenth of the time.
# Needs npm and the network.    usage: scripts/vendor_niivue.sh
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.69.0
original=47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
changed=f2298d9bc3ac9fee099d8ce92492804f375829e88e0270d215638002b8b3c35f
out=p2ch_luna/report/html/static/niivue.umd.js.gz
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

npm pack --silent --pack-destination "$folder" "@niivue/niivue@$version" >/dev/null
tar -xzf "$folder/niivue-niivue-$version.tgz" -C "$folder" package/dist/niivue.umd.js
umd=$folder/package/dist/niivue.umd.js
echo "$original  $umd" | sha256sum --check --quiet
sed -i 's/this\.volumeTexture=i,this\.gradientTexture=Ti(/this.volumeTexture=i,this.gradientTexture=(()=>null)(/' "$umd"
echo "$changed  $umd" | sha256sum --check --quiet
gzip -9 -n -c "$umd" >"$out"
echo "$out: NiiVue $version, $(stat -c %s "$out") bytes"
