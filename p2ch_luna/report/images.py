"""Pictures of findings, for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from p2ch_luna.geometry import AIR_HU, LUNG_WINDOW_HU, CtVolume, crop_around, crop_box, resample, to_canonical
from p2ch_luna.report.schema import Finding, Report

SIDE_MM = 60  # of a picture
MOST = 12  # findings shown, the most probable


def write_montage(path: Path, ct: CtVolume, report: Report) -> None:
    """An axial PNG of each of the first `MOST` findings: circled, 1 mm pixels, a scale bar of 10 mm."""
    shown = report.findings[:MOST]
    columns = min(4, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows + 0.3), layout="constrained", facecolor="white")
    figure.suptitle(f"{report.scan.name}: {len(report.findings)} findings. {report.statement}", fontsize=8)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    if not shown:
        axes[0].text(0.5, 0.5, "no finding", ha="center", fontsize=9)
    for ax, finding in zip(axes, shown, strict=False):
        ax.imshow(axial_picture(ct, finding), cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
        middle = SIDE_MM // 2
        ax.add_patch(Circle((middle, middle), finding.diameter_mm / 2 + 3, fill=False, color="#ff9f1c", lw=1))
        ax.add_patch(Rectangle((SIDE_MM - 13, SIDE_MM - 4), 10, 1, color="white"))
        ax.set_title(
            f"{finding.id}  p {finding.nodule_probability:.2f}  {finding.diameter_mm:.1f} mm", fontsize=8
        )
    figure.savefig(path, format="png", dpi=110)


def axial_picture(ct: CtVolume, finding: Finding) -> NDArray[np.float32]:
    """(`SIDE_MM`, `SIDE_MM`) HU of the scan's most axial plane at 1 mm, the finding in the middle.

    Rows run to the back and columns to the patient's left, as radiologists look at it; a tilt remains.
    """
    canonical = to_canonical(ct)
    center = canonical.geometry.to_irc(finding.center_lps_mm)
    reach = (SIDE_MM / 2 + 3) / canonical.geometry.spacing_irc
    box = crop_box(canonical, np.floor(center - reach), np.ceil(center + reach) + 1)
    fine = resample(box, 1.0)
    middle = fine.geometry.to_irc(finding.center_lps_mm)
    picture: NDArray[np.float32] = crop_around(
        fine.hu.astype(np.float32), middle, (1, SIDE_MM, SIDE_MM), AIR_HU
    )[0]
    return picture
