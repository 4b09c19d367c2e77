"""`report.html`: the report of one scan as one page that needs nothing else, not even a network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from p2ch_luna.files import replacing
from p2ch_luna.geometry import CtVolume
from p2ch_luna.report.html import text, viewer
from p2ch_luna.report.html.volume import ViewerVolume, viewer_volume
from p2ch_luna.report.key_images import PIXELS, key_image_name
from p2ch_luna.report.schema import PLANES, Plane, Report

MAX_BYTES = 25_000_000
MAX_IMAGE_BYTES = 5_000_000  # of key images in the page, before base64
MAX_THUMBNAILS = 200
THUMBNAIL_PIXELS = 152  # twice their size on the page
MARGIN_BYTES = 100_000  # for what is written between the parts that are counted


def write_html(
    path: Path,
    report: Report,
    ct: CtVolume,
    labels: NDArray[np.uint8],
    key_images: Path,
    slice_numbers: Sequence[int],
) -> None:
    """Write the page, at most `MAX_BYTES` large whatever the size of the CT.

    labels: (D, H, W) on the grid of `ct`, `Finding.label` in the voxels of a finding.
    key_images: the folder that `write_key_images` wrote into.
    slice_numbers: of each slice of `ct`, as a viewer of the source shows it.
    """
    parts = _Parts.of(report, key_images)
    room = MAX_BYTES - MARGIN_BYTES - parts.bytes - 8 * len(slice_numbers)
    volume = viewer_volume(ct, labels, [finding.center_lps_mm for finding in report.findings], room)
    page = _page(report, parts, volume, viewer.facts(report, ct, volume, slice_numbers))
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode())


@dataclass(frozen=True)
class _Parts:
    """What is in the page whatever room the CT takes: texts of HTML, CSS and JavaScript."""

    style: str
    scripts: tuple[str, ...]
    notice: str
    above: str
    below: str

    @classmethod
    def of(cls, report: Report, key_images: Path) -> _Parts:
        thumbnails = {
            finding.id: _thumbnail(key_images / key_image_name(finding.id, "axial"))
            for finding in report.findings[:MAX_THUMBNAILS]
        }
        above = [
            text.heading(report),
            text.warnings(report),
            text.findings_table(report, thumbnails),
        ]
        below = [text.key_images(report, _key_images(report, key_images)), text.run_facts(report)]
        return cls(
            viewer.viewer_file("page.css"),
            tuple(viewer.scripts()),
            viewer.viewer_file("NIIVUE-LICENSE.txt"),
            "".join(above),
            "".join(below),
        )

    @property
    def bytes(self) -> int:
        """As they are in UTF-8."""
        return sum(
            len(part.encode()) for part in (self.style, *self.scripts, self.notice, self.above, self.below)
        )


def _page(report: Report, parts: _Parts, volume: ViewerVolume, facts: str) -> str:
    jpegs = "\n".join(volume.jpegs)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(parts)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(report.scan.name)}: {escape(report.count)}</title>",
            f"<style>{parts.style}</style></head><body>",
            text.banner(report),
            f'<main id="bench"><div class="above">{parts.above}</div>',
            viewer.section(report, volume),
            f'<div class="below">{parts.below}</div></main>',
            f'<script type="application/json" id="facts">{facts}</script>',
            f'<script type="text/plain" id="slices">{jpegs}</script>',
            f"<!--\n{parts.notice}-->",
            *(f"<script>{script}</script>" for script in parts.scripts),
            "</body></html>",
            "",
        ]
    )


def _policy(parts: _Parts) -> str:
    """Nothing is fetched, and nothing runs but these scripts, whatever the texts of a scan say."""
    scripts = " ".join(map(_hash_source, parts.scripts))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_hash_source(parts.style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash_source(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode('ascii')}'"


def _key_images(report: Report, folder: Path) -> dict[str, dict[Plane, str]]:
    """Data URIs by finding and plane, of as many findings as there is room for, the first first."""
    shown: dict[str, dict[Plane, str]] = {}
    used = 0
    for finding in report.findings:
        names = {plane: key_image_name(finding.id, plane) for plane in PLANES}
        pngs = {plane: (folder / name).read_bytes() for plane, name in names.items()}
        used += sum(map(len, pngs.values()))
        if used > MAX_IMAGE_BYTES:
            break
        shown[finding.id] = {plane: _data_uri(png, "png") for plane, png in pngs.items()}
    return shown


def _thumbnail(axial: Path) -> str:
    """The middle of a key image, without its texts, as a data URI."""
    edge = PIXELS // 5
    box = (edge, edge, PIXELS - edge, PIXELS - edge)
    with Image.open(axial) as picture:
        size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
        middle = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC, box)
    jpeg = BytesIO()
    middle.save(jpeg, format="JPEG", quality=85)
    return _data_uri(jpeg.getvalue(), "jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"
