"""examples/browser: what Python's reading warns of, in the same words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.io import write_ct
from p2ch_luna.io.opened import open_scan
from support.browser_site import run_node
from support.dicom_files import small_ct, write_dicom

pytestmark = pytest.mark.slow


def warned(site: Path, scan: Path) -> list[str]:
    """What JavaScript says on reading a file, or all files of a folder and below it."""
    files = sorted(path for path in scan.rglob("*") if path.is_file()) or [scan]
    settings = json.loads((site / "built" / "pipeline.json").read_text(encoding="utf-8"))["checks"]
    code = f"""
      import {{ File }} from "node:buffer";
      import {{ readFile }} from "node:fs/promises";
      import {{ basename }} from "node:path";
      import {{ readCt }} from {json.dumps(str(site / "js" / "formats.js"))};
      const read = async (path) => new File([await readFile(path)], basename(path));
      const files = await Promise.all({json.dumps([str(path) for path in files])}.map(read));
      console.log(JSON.stringify((await readCt(files, {json.dumps(settings)})).warnings));
    """
    told: list[str] = json.loads(run_node("--input-type=module", "--eval", code))
    return told


def check_same(site: Path, scan: Path, says: str) -> None:
    """Both warn alike, of one thing; says: part of it, empty where they are to be silent."""
    with open_scan(scan) as opened:
        wanted = list(opened.warnings)
    assert warned(site, scan) == wanted
    assert len(wanted) == bool(says)
    assert says in "".join(wanted)


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha", "scan.nrrd"])
@pytest.mark.parametrize(
    ("step", "says"),
    [
        (2.5, ""),
        (3.0, ""),
        (3.125, "lie 3.12 mm"),
        (3.145, "lie 3.1"),
        (3.375, "lie 3.38 mm"),
        (5.0, "lie 5 mm"),
    ],
)
def test_wide_slices_of_a_file_are_told(
    site: Path, tmp_path: Path, name: str, step: float, says: str
) -> None:
    write_ct(tmp_path / name, small_ct(step=step))
    check_same(site, tmp_path / name, says)


@pytest.mark.parametrize(
    ("step", "tags", "says"),
    [
        (2.5, {"SliceThickness": "2.5"}, ""),
        (2.5, {"SliceThickness": None}, ""),
        (2.5, {"SliceThickness": "0"}, ""),
        (2.5, {"SliceThickness": "2"}, "a nodule may lie in a gap"),
        (
            1.0,
            {"SliceThickness": "2.4990001"},
            "2.499 mm thick and 1 mm apart: they overlap by more than half",
        ),
        (5.0, {"SliceThickness": "5"}, "slices lie 5 mm apart"),
        (3.0, {"SliceThickness": "6"}, "slices are 6 mm thick: small nodules may be missed"),
        (2.5, {"RescaleSlope": lambda k: None if k < 3 else 1}, "their values taken as they are: 3"),
        (2.5, {"RescaleType": "US"}, "values are said to be US: they were taken as HU"),
        (2.5, {"RescaleType": None}, ""),
    ],
)
def test_what_a_dicom_series_says_of_its_slices_is_told(
    site: Path, tmp_path: Path, step: float, tags: dict[str, Any], says: str
) -> None:
    check_same(site, write_dicom(tmp_path / "series", small_ct(step=step), **tags), says)


def test_several_studies_are_told(site: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "both" / "a", small_ct(12, uid="1.2.3"), StudyInstanceUID="1.7")
    write_dicom(tmp_path / "both" / "b", small_ct(16, uid="1.2.4"), StudyInstanceUID="1.8")
    check_same(site, tmp_path / "both", "CTs of 2 studies are there: 1.8 was read")
