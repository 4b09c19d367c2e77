"""Write what luna_propose reads: a CT prepared as `luna diagnose` prepares it, and its lungs.

usage: write_raw.py CT OUT

CT is a .mhd, .mha, NIfTI or NRRD file, or a folder or a zip of DICOM. The folder OUT gets ct.mhd with ct.raw
(int16 HU at 1 mm), and lung.mhd with lung.raw (uint8, 0: outside). The headers are MetaImage's: text that
says shape, spacing, origin and direction. Voxels are little-endian, col runs fastest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_ct, write_ct, write_mask
from p2ch_luna.lungs import prepare


def write_raw(scan: Path, folder: Path) -> str | None:
    """Prepare a scan and write it; what is to be said of its lungs."""
    prepared = prepare(read_ct(scan))
    write_ct(folder / "ct.mhd", prepared.ct)
    write_mask(folder / "lung.mhd", prepared.lung, prepared.ct.geometry)
    return prepared.warning


def main() -> None:
    """Write, or say in one line why not, and exit with 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scan", type=Path)
    parser.add_argument("output", type=Path)
    wanted = parser.parse_args()
    try:
        warning = write_raw(wanted.scan, wanted.output)
    except LunaError as error:
        sys.exit(str(error))
    if warning:
        print(warning, file=sys.stderr)
    print(f"{wanted.output / 'ct.mhd'} and {wanted.output / 'lung.mhd'} written")


if __name__ == "__main__":
    main()
