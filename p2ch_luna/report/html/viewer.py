"""The slice viewer of `report.html`: its place in the page, its scripts and what they read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.geometry import CtVolume
from p2ch_luna.report.html.volume import ViewerVolume, hu_of_bytes
from p2ch_luna.report.schema import Report

VIEWER = Path(__file__).parent / "static"
SCRIPTS = ("volume.js", "viewer.js", "page.js")
CROSSHAIR_GAP_MM = 4.0  # between a finding's edge and the crosshair


def scripts() -> list[str]:
    """NiiVue, then what drives it, in the order in which they run."""
    niivue = gzip.decompress((VIEWER / "niivue.umd.js.gz").read_bytes()).decode("utf-8")
    return [niivue, *map(viewer_file, SCRIPTS)]


def viewer_file(name: str) -> str:
    """The text of a file of the viewer."""
    return (VIEWER / name).read_text(encoding="utf-8")


def section(report: Report, volume: ViewerVolume) -> str:
    """The viewer with its buttons; the scripts fill it."""
    chips = "".join(
        f'<button class="chip" aria-pressed="false">{escape(finding.id)}</button>'
        for finding in report.findings
    )
    return Template(viewer_file("viewer.html")).substitute(chips=chips, note=escape(_fidelity(volume)))


def _fidelity(volume: ViewerVolume) -> str:
    text = (
        f"For looking, not for measuring: slices are compressed (JPEG, quality {volume.quality}) and the air "
        "around the body is cut away."
    )
    if volume.is_coarse:
        x, y, z = volume.geometry.spacing_xyz
        text += (
            " The scan is too large for a page: here its voxels are averaged to "
            f"{x:.2g} × {y:.2g} × {z:.2g} mm."
        )
    return text + " Measures were taken in the scan itself."


def facts(report: Report, ct: CtVolume, volume: ViewerVolume, slice_numbers: Sequence[int]) -> str:
    """What the scripts read, as JSON that may stand inside a script element.

    slice_numbers: of each slice of `ct`, as a viewer of the source shows it.
    """
    step = ct.geometry.direction[:, 2] / ct.geometry.spacing_xyz[2]
    content = {
        "volume": {
            "shape": volume.shape_irc,
            "spacing": volume.geometry.spacing_xyz.tolist(),
            "affine": _ras_affine(volume).tolist(),
            "hu": hu_of_bytes(),
            "means": volume.means,
            "masks": [
                {"label": m.label, "start": m.start_irc, "shape": m.shape_irc, "bits": m.bits}
                for m in volume.masks
            ],
        },
        "slices": {
            "step": step.tolist(),
            "offset": float(step @ ct.geometry.origin_xyz),
            "numbers": list(slice_numbers),
        },
        "findings": [
            {
                "id": finding.id,
                "label": finding.label,
                "lps": finding.center_lps_mm,
                "gap": finding.longest_mm / 2 + CROSSHAIR_GAP_MM,
            }
            for finding in report.findings
        ],
    }
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _ras_affine(volume: ViewerVolume) -> NDArray[np.float64]:
    """(3, 4) from (column, row, slice) to RAS mm, as NIfTI has it."""
    geometry = volume.geometry
    lps = np.column_stack([geometry.direction * geometry.spacing_xyz, geometry.origin_xyz])
    return lps * [[-1], [-1], [1]]
