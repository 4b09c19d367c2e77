#!/usr/bin/env bash
# Make the vendored files of p2ch_luna/serve/static/ again from their npm packages, and check that they are what they
# were: fflate, which zips a folder in the browser, and Swagger UI, which shows the API at /docs.
# Needs npm and the network.    usage: scripts/vendor_web.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fflate=0.8.3
swagger=5.35.0
out=p2ch_luna/serve/static
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

# unpack NAME VERSION: a package into $folder/NAME
unpack() {
  npm pack --silent --pack-destination "$folder" "$1@$2" >/dev/null
  mkdir "$folder/$1"
  tar -xzf "$folder/$1-$2.tgz" -C "$folder/$1" --strip-components 1
}

# pack FILE SHA256 NAME: what was checked, compressed, as the server sends it
pack() {
  echo "$2  $folder/$1" | sha256sum --check --quiet
  gzip -9 -n -c "$folder/$1" >"$out/$3.gz"
  echo "$out/$3.gz: $(stat -c %s "$out/$3.gz") bytes"
}

unpack fflate "$fflate"
unpack swagger-ui-dist "$swagger"
pack fflate/umd/index.js 462ef8041fc970e3615a20a9dd2b2e3047a073b2da729ef4f02b634bba8b7b83 fflate.js
pack swagger-ui-dist/swagger-ui-bundle.js \
  e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2 swagger-ui-bundle.js
pack swagger-ui-dist/swagger-ui.css 5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d swagger-ui.css
cp "$folder/fflate/LICENSE" "$out/FFLATE-LICENSE.txt"
cat "$folder"/swagger-ui-dist/{NOTICE,swagger-ui-bundle.js.LICENSE.txt,LICENSE} >"$out/SWAGGER-UI-LICENSE.txt"
