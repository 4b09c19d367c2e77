"""Pictures of findings, for people."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from p2ch_luna.geometry import LUNG_WINDOW_HU, CtVolume
from p2ch_luna.report.axial import SIDE_MM, axial_picture
from p2ch_luna.report.schema import Report

MOST = 12  # findings shown, the most probable
FEWEST_COLUMNS = 2  # so that the line above them has room


def write_montage(path: Path, ct: CtVolume, report: Report) -> None:
    """An axial PNG of each of the first `MOST` findings: circled, 1 mm pixels, a scale bar of 10 mm."""
    shown = report.findings[:MOST]
    columns = min(4, max(FEWEST_COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows + 0.3), layout="constrained", facecolor="white")
    title = f"{report.scan.name}: {report.count}.\n{report.statement}"
    figure.suptitle(title, fontsize=8)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    if not shown:
        axes[0].text(0.5, 0.5, "no finding", ha="center", fontsize=9)
    for ax, finding in zip(axes, shown, strict=False):
        picture = axial_picture(ct, finding.center_lps_mm)
        ax.imshow(picture, cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
        middle = SIDE_MM // 2
        ax.add_patch(Circle((middle, middle), finding.diameter_mm / 2 + 3, fill=False, color="#ff9f1c", lw=1))
        ax.add_patch(
            Rectangle((SIDE_MM - 13, SIDE_MM - 4), 10, 1, facecolor="white", edgecolor="black", lw=0.5)
        )
        ax.set_title(
            f"{finding.id}  p {finding.nodule_probability:.2g}  {finding.diameter_mm:.1f} mm", fontsize=8
        )
    figure.savefig(path, format="png", dpi=110)
