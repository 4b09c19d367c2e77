"""Pairs of pictures, the earlier scan beside the later one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from p2ch_luna.files import replacing
from p2ch_luna.findings import Point
from p2ch_luna.geometry import LUNG_WINDOW_HU, CtVolume
from p2ch_luna.report.axial import axial_picture
from p2ch_luna.report.comparison.run import Diagnosed
from p2ch_luna.report.comparison.schema import Compared, Comparison, Sight
from p2ch_luna.report.images import INK, MARGIN, PAPER
from p2ch_luna.report.key_images import PIXELS, SIDE_MM, font

MOST = 12  # nodules shown
TITLE, HEADER = 48, 56  # pixels
EMPTY = "#d0d0d0"


def write_pairs(path: Path, comparison: Comparison, prior: Diagnosed, current: Diagnosed) -> None:
    """A row each of the first `MOST` nodules: the axial key images, where the folders still have them.

    Where a scan has no such finding its lungs are shown at the place where it would be, 2 mm fine.
    """
    shown = comparison.nodules[:MOST]
    width = 2 * PIXELS + 3 * MARGIN
    sheet = Image.new("RGB", (width, HEADER + max(1, len(shown)) * (TITLE + PIXELS + MARGIN)), PAPER)
    draw = ImageDraw.Draw(sheet)
    more = f", the first {MOST} shown" if len(comparison.nodules) > MOST else ""
    title = f"{comparison.prior.name} and, later, {comparison.current.name}{more}.\n{comparison.statement}"
    draw.multiline_text((MARGIN, MARGIN), title, fill=INK, font=font(15))
    if not shown:
        draw.text((MARGIN, HEADER), "no finding in either scan", fill=INK, font=font(14))
    for row, nodule in enumerate(shown):
        top = HEADER + row * (TITLE + PIXELS + MARGIN)
        draw.multiline_text((MARGIN, top + 6), _title(nodule), fill=INK, font=font(14))
        for column, (sight, scan) in enumerate(((nodule.prior, prior), (nodule.current, current))):
            picture = _picture(sight, scan, nodule.expected_lps_mm)
            sheet.paste(picture, (MARGIN + column * (PIXELS + MARGIN), top + TITLE))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", compress_level=1)


def _title(nodule: Compared) -> str:
    before, now = (
        f"{sight.id} {sight.mean_diameter_mm:.1f} mm" if sight else "-"
        for sight in (nodule.prior, nodule.current)
    )
    verdict = nodule.growth.verdict if nodule.growth else nodule.status
    grown = (
        f" ({nodule.growth.diameter_mm:+.1f} mm, volume {nodule.growth.volume_percent:+.0f}%)"
        if nodule.growth
        else ""
    )
    return f"{before} > {now}{grown}\n{verdict}{f', {nodule.remark}' if nodule.remark else ''}"


def _picture(sight: Sight | None, scan: Diagnosed, expected: Point) -> Image.Image:
    """Of a finding its key image; else the lungs at its place."""
    if sight is None:
        return _lungs(scan.lungs, expected)
    finding = next(finding for finding in scan.report.findings if finding.id == sight.id)
    name = finding.images.get("axial")
    if name is None or not (scan.folder / name).is_file():
        return _lungs(scan.lungs, sight.center_lps_mm)
    with Image.open(scan.folder / name) as picture:
        return picture.convert("RGB").resize((PIXELS, PIXELS))


def _lungs(lungs: CtVolume, place: Point) -> Image.Image:
    """The lungs at a place; nothing where they are not in the scan."""
    try:
        hu = axial_picture(lungs, place, round(SIDE_MM))
    except ValueError:  # outside of what the scan shows
        return Image.new("RGB", (PIXELS, PIXELS), EMPTY)
    low, high = LUNG_WINDOW_HU
    gray = np.rint(255 * np.clip((hu - low) / (high - low), 0, 1)).astype(np.uint8)
    picture = Image.fromarray(gray).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR).convert("RGB")
    ImageDraw.Draw(picture).text((8, PIXELS - 24), "lungs at this place, 2 mm", fill="white", font=font(14))
    return picture
