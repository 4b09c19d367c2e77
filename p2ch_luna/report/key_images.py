"""Key images: each finding in three planes of the patient, as radiologists look at it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from p2ch_luna.files import replacing
from p2ch_luna.geometry import AIR_HU, LUNG_WINDOW_HU, CtVolume, HuArray, ImageGeometry, to_canonical
from p2ch_luna.report.schema import Finding, Plane

PIXELS = 400  # of a side
SIDE_MM = 50.0  # that they show at least
AROUND_MM = 30.0  # shown of what is beside the finding, both sides together
BAR_MM = 10.0
FONT_PIXELS = 18
GRAYS = 192  # of the palette; the rest are `BLENDS` of the outline's colour with `BLENDED_GRAYS`
BLENDS, BLENDED_GRAYS = 4, 16
OUTLINE = (255, 176, 0)
OUTLINE_PIXELS = 1.1  # half of its width
LETTERS = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}  # left, right, top, bottom
NORMAL: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}  # the LPS axis across the plane
AXES = (("L", "R"), ("P", "A"), ("H", "F"))  # LPS axes, their positive direction first

Gray = NDArray[np.uint8]


def key_image_name(finding_id: str, plane: Plane) -> str:
    """The file name of a key image."""
    return f"{finding_id}-{plane}.png"


def write_key_images(
    folder: Path, ct: CtVolume, findings: Sequence[Finding], labels: NDArray[np.uint8]
) -> None:
    """Write a PNG each of the axial, coronal and sagittal plane through every finding.

    labels: (D, H, W) on the grid of `ct`, `Finding.label` in the voxels of a finding. The planes are the
    scan's own that lie nearest to the patient's: a tilt remains. Lung window, millimetres square.
    """
    scene = _Scene.of(ct, labels)
    wanted = [(finding, plane) for finding in findings for plane in NORMAL]

    def write(image: tuple[Finding, Plane]) -> None:
        finding, plane = image
        with replacing(folder / key_image_name(finding.id, plane)) as path:
            # in noise only runs of one pixel are worth looking for: 20 times as fast as the default
            _draw(scene, finding, plane).save(path, format="PNG", compress_type=3)

    with ThreadPoolExecutor() as pool:  # Pillow's own work holds no lock
        list(pool.map(write, wanted))


@dataclass(frozen=True, eq=False)
class _Scene:
    """CT and labels with columns to the left, rows to the back, slices up; `across`: the source's slices."""

    hu: HuArray
    labels: NDArray[np.uint8]
    geometry: ImageGeometry
    across: int  # the LPS axis that the slices of the source are counted along

    @classmethod
    def of(cls, ct: CtVolume, labels: NDArray[np.uint8]) -> _Scene:
        canonical = to_canonical(ct)
        # the labels take the same way as the voxels; that they are no HU does not matter to it
        turned = to_canonical(CtVolume(ct.series_uid, cast("HuArray", labels), ct.geometry))
        along = np.abs(canonical.geometry.direction.T @ ct.geometry.direction[:, 2])
        return cls(
            canonical.hu, cast("NDArray[np.uint8]", turned.hu), canonical.geometry, int(along.argmax())
        )


@dataclass(frozen=True)
class _View:
    """Where a picture looks: its middle in pixels of a plane, and pixels of the plane per picture."""

    middle: tuple[float, float]  # row, column
    size: tuple[float, float]  # rows, columns


def _draw(scene: _Scene, finding: Finding, plane: Plane) -> Image.Image:
    side_mm = max(SIDE_MM, finding.longest_mm + AROUND_MM)
    center = scene.geometry.to_irc(finding.center_lps_mm)
    view = _view(scene, center, plane, side_mm)
    hu = _picture(_plane(scene.hu, center, plane), view, AIR_HU)
    mask = _picture(_plane(scene.labels, center, plane) == finding.label, view, 0.0)
    low, high = LUNG_WINDOW_HU
    gray = np.rint(np.clip((hu - low) / (high - low), 0, 1) * (GRAYS - 1)).astype(np.uint8)
    image = Image.fromarray(_with_outline(gray, mask))
    _write_on(image, _texts(scene, finding, plane), LETTERS[plane], BAR_MM / side_mm * PIXELS)
    image.putpalette(_palette())
    return image


def _plane(volume: NDArray[Any], center_irc: NDArray[np.float64], plane: Plane) -> NDArray[Any]:
    """The nearest plane, its first row at the top of the picture."""
    axis = 2 - NORMAL[plane]
    index = int(np.clip(np.rint(center_irc[axis]), 0, volume.shape[axis] - 1))
    found: NDArray[Any] = np.moveaxis(volume, axis, 0)[index]
    return found if plane == "axial" else found[::-1]


def _view(scene: _Scene, center_irc: NDArray[np.float64], plane: Plane, side_mm: float) -> _View:
    across = 2 - NORMAL[plane]
    rows, columns = (axis for axis in range(3) if axis != across)
    spacing = scene.geometry.spacing_irc
    row = center_irc[rows] if plane == "axial" else scene.hu.shape[rows] - 1 - center_irc[rows]
    return _View(
        (float(row), float(center_irc[columns])),
        (side_mm / float(spacing[rows]), side_mm / float(spacing[columns])),
    )


def _picture(plane: NDArray[Any], view: _View, fill: float) -> NDArray[np.float32]:
    """(`PIXELS`, `PIXELS`) of the view, interpolated; `fill` outside the plane."""
    low = np.array(view.middle) - np.array(view.size) / 2 + 0.5  # edges of pixels
    high = low + view.size
    start, stop = np.floor(low).astype(int) - 2, np.ceil(high).astype(int) + 2  # as far as a cubic looks
    part = np.full(tuple(stop - start), fill, np.float32)
    inside_low, inside_high = np.clip([start, stop], 0, plane.shape)
    part[tuple(map(slice, inside_low - start, inside_high - start))] = plane[
        tuple(map(slice, inside_low, inside_high))
    ]
    (top, left), (bottom, right) = low - start, high - start
    fine = Image.fromarray(part).resize(
        (PIXELS, PIXELS), Image.Resampling.BICUBIC, (left, top, right, bottom)
    )
    return np.asarray(fine)


def _with_outline(gray: Gray, mask: NDArray[np.float32]) -> Gray:
    """The line where the interpolated mask is a half, in indices of the palette."""
    slope = np.hypot(*np.gradient(mask))
    away = np.abs(mask - 0.5) / np.maximum(slope, 1e-3)  # pixels to the line, where it is near
    strength = np.rint(np.clip(OUTLINE_PIXELS + 0.5 - away, 0, 1) * BLENDS).astype(np.uint8)
    blended = GRAYS + (np.maximum(strength, 1) - 1) * BLENDED_GRAYS + gray // (GRAYS // BLENDED_GRAYS)
    return np.where(strength > 0, blended, gray).astype(np.uint8)


@cache
def _palette() -> bytes:
    """RGB of each index: grays, then the outline's colour over grays, from faint to full."""
    grays = np.linspace(0, 255, GRAYS)[:, None].repeat(3, axis=1)
    behind = np.linspace(0, 255, BLENDED_GRAYS)[:, None]
    blends = [behind + (np.array(OUTLINE) - behind) * (step + 1) / BLENDS for step in range(BLENDS)]
    colours: NDArray[np.uint8] = np.rint(np.concatenate([grays, *blends])).astype(np.uint8)
    return colours.tobytes()


def _texts(scene: _Scene, finding: Finding, plane: Plane) -> tuple[str, str]:
    """What stands above and below: which plane this is, and how large the finding."""
    axis = NORMAL[plane]
    if axis == scene.across:
        where = f"slice {finding.slice_number}"
    else:
        mm = finding.center_lps_mm[axis]
        where = f"{AXES[axis][0 if mm >= 0 else 1]} {abs(mm):.0f} mm"
    size = f"{finding.mean_diameter_mm:.1f} mm ({finding.longest_mm:.1f} × {finding.perpendicular_mm:.1f})"
    return f"{finding.id}  {plane}  {where}", size


def _write_on(image: Image.Image, texts: tuple[str, str], letters: str, bar_pixels: float) -> None:
    """Texts, orientation letters and the scale bar, white with a dark edge: readable on any tissue."""
    draw = ImageDraw.Draw(image)
    middle, edge, last = PIXELS / 2, 8, PIXELS - 8
    bar_left, bar_top = last - bar_pixels, last - 5
    places = [
        (texts[0], (edge, edge), "la"),
        (texts[1], (edge, last), "ld"),
        (letters[0], (edge, middle), "lm"),
        (letters[1], (last, middle), "rm"),
        (letters[2], (middle, edge + 26), "ma"),
        (letters[3], (middle, last - 26), "md"),
        (f"{BAR_MM:.0f} mm", (last - bar_pixels / 2, bar_top - 4), "md"),
    ]
    for text, place, anchor in places:
        draw.text(
            place, text, fill=GRAYS - 1, font=font(FONT_PIXELS), anchor=anchor, stroke_width=2, stroke_fill=0
        )
    draw.rectangle((bar_left - 2, bar_top - 2, last + 1, last + 1), fill=0)
    draw.rectangle((bar_left, bar_top, last - 1, last - 1), fill=GRAYS - 1)


@cache
def font(pixels: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which Matplotlib brings along (Pillow's own font lacks ×, − and letters like é)."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("matplotlib, which this package depends on, is not installed")
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"), pixels)
