#!/usr/bin/env bash
# Install what slow tests need beside the package: a browser for report.html, a validator of DICOM objects, a
# DICOM server, what builds and runs examples/ and, into .venv, a second reader of SEG and SR. For Debian and its
# kin; does nothing where all of it is there. Runs as root, or through sudo.
# usage: scripts/install_test_tools.sh
set -euo pipefail

cd "$(dirname "$0")/.."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt dcmqi

packages=()
need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || packages+=("$2")
}
PATH=$PATH:/usr/sbin
need chromium chromium
need dciodvfy dicom3tools
need dcmdump dcmtk
need Orthanc orthanc
need cmake cmake
need ninja ninja-build
need g++ g++
need node nodejs
need npm npm
ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* >/dev/null 2>&1 || packages+=(orthanc-dicomweb)

if [ ${#packages[@]} -eq 0 ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "${packages[*]}: not installed, and there is no apt-get; wanted Debian or its kin" >&2
  exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
