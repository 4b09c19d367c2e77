"""All findings in one picture, for people."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from p2ch_luna.files import replacing
from p2ch_luna.report.key_images import PIXELS, font, key_image_name
from p2ch_luna.report.rates import probability_text
from p2ch_luna.report.schema import Finding, Report

MOST = 12  # findings shown, the most probable
COLUMNS = 4
MARGIN, TITLE, HEADER = 12, 48, 56  # pixels
PAPER, INK = "white", "#222222"


def write_montage(path: Path, report: Report, key_images: Path) -> None:
    """One PNG with the axial key image of each of the first `MOST` findings, its place and size above it.

    key_images: the folder that `write_key_images` wrote into.
    """
    shown = report.findings[:MOST]
    columns = min(COLUMNS, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    width = columns * PIXELS + (columns + 1) * MARGIN
    height = HEADER + rows * (TITLE + PIXELS + MARGIN)
    sheet = Image.new("RGB", (width, height if shown else HEADER + TITLE), PAPER)
    draw = ImageDraw.Draw(sheet)
    more = f", the first {MOST} shown" if len(report.findings) > MOST else ""
    count = f": {report.count}{more}."
    name = _shortened(report.scan.name, width - 2 * MARGIN - font(15).getlength(count))
    title = f"{name}{count}\n{report.statement}"
    draw.multiline_text((MARGIN, MARGIN), title, fill=INK, font=font(15))
    for place, finding in enumerate(shown):
        row, column = divmod(place, columns)
        left, top = MARGIN + column * (PIXELS + MARGIN), HEADER + row * (TITLE + PIXELS + MARGIN)
        draw.multiline_text((left, top + 6), _title(finding), fill=INK, font=font(14))
        with Image.open(key_images / key_image_name(finding.id, "axial")) as picture:
            sheet.paste(picture.convert("RGB"), (left, top + TITLE))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", compress_level=1)


def _shortened(name: str, width: float) -> str:
    """As much of the name as is not wider than so many pixels."""
    shown = name
    while font(15).getlength(shown) > width and len(shown) > 1:
        shown = f"{shown[:-2]}…"
    return shown


def _title(finding: Finding) -> str:
    where = ", ".join(part for part in (finding.side, finding.third and f"{finding.third} third") if part)
    place = f"{where}, slice {finding.slice_number}" if where else f"slice {finding.slice_number}"
    return (
        f"{finding.id}  {place}\n{finding.mean_diameter_mm:.1f} mm, {finding.texture}, "
        f"nodule probability {probability_text(finding.nodule_probability)}"
    )
