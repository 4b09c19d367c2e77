#!/usr/bin/env bash
# Make a virtual environment with a Python >= 3.11, first the one that constraints.txt was made with; keep one
# that is there.
# usage: scripts/make_venv.sh FOLDER
set -euo pipefail

venv=$1
new_enough='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'

if [ -x "$venv/bin/python" ]; then
    exit 0
fi
for python in python3.11 python3.12 python3.13 python3; do
    if command -v "$python" >/dev/null && "$python" -c "$new_enough" 2>/dev/null; then
        echo "making $venv with $("$python" --version)" >&2
        "$python" -m venv "$venv" || { rm -rf "$venv"; exit 1; }  # not half of one
        exit 0
    fi
done
found=$(python3 --version 2>/dev/null || echo none)
echo "Python: found $found; expected 3.11 or newer with the modules venv and ensurepip" >&2
exit 1
