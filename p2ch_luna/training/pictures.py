"""Montages for TensorBoard: middle slices with what is true and what was said drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.geometry import LUNG_WINDOW_HU

GREEN, RED, BLUE = (0, 220, 90), (255, 70, 50), (70, 150, 255)
CAPTION_HEIGHT = 20  # pixels; one for all, so that captioned pictures of one size fit into a montage
FONT_SIZES = (15, 13, 11, 9, 7)  # pixels: the first at which a caption fits


def picture(
    hu: NDArray[np.float32],
    mask: NDArray[np.bool_] | None = None,
    said: NDArray[np.bool_] | None = None,
    scale: int = 3,
    unsure: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """The axial slice that shows most: (D, H, W) HU to (H scale, W scale, 3).

    Outlined are what is true in green, what was said in red, what is not known in blue.
    """
    shown = mask if mask is not None and mask.any() else said
    has_area = shown is not None and shown.any()
    index = int(shown.sum(axis=(1, 2)).argmax()) if shown is not None and has_area else len(hu) // 2
    low, high = LUNG_WINDOW_HU
    gray = (np.clip((hu[index] - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    rgb = np.repeat(_enlarge(gray, scale)[..., None], 3, axis=2)
    for region, color in ((unsure, BLUE), (said, RED), (mask, GREEN)):
        if region is not None:
            large = _enlarge(region[index], scale)
            rgb[large & ~ndimage.binary_erosion(large)] = color
    return rgb


def montage(pictures: Sequence[NDArray[np.uint8]], columns: int = 6, gap: int = 4) -> NDArray[np.uint8]:
    """Pictures of one size side by side, (H, W, 3). Raises ValueError for none, or for more than one size."""
    shapes = sorted({one.shape for one in pictures})
    if len(shapes) != 1:
        raise ValueError(f"a montage needs pictures of one shape, got {shapes or 'none'}")
    h, w, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, one in enumerate(pictures):
        r, c = divmod(i, columns)
        sheet[r * (h + gap) : r * (h + gap) + h, c * (w + gap) : c * (w + gap) + w] = one
    return sheet


def captioned(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The picture with a line of text below it, white on black: (H, W, 3) to (H + CAPTION_HEIGHT, W, 3).

    A long text has smaller letters; where even the smallest do not fit, its end is cut off.
    """
    width = image.shape[1]
    fonts = (ImageFont.load_default(size) for size in FONT_SIZES)
    font = next((font for font in fonts if font.getlength(text) <= width - 4), None)
    strip = Image.new("RGB", (width, CAPTION_HEIGHT))
    pen, y = ImageDraw.Draw(strip), CAPTION_HEIGHT / 2
    if font is None:
        pen.text((2, y), text, font=ImageFont.load_default(FONT_SIZES[-1]), anchor="lm")
    else:
        pen.text((width / 2, y), text, font=font, anchor="mm")
    return np.concatenate([image, np.asarray(strip)])


def before_after(
    hu: NDArray[Any],
    labels: NDArray[np.uint8] | None,
    changed_hu: NDArray[Any],
    changed_labels: NDArray[np.uint8] | None,
    scale: int = 3,
) -> NDArray[np.uint8]:
    """Every sample above what augmentation made of it: all (B, D, H, W), HU and labels, to (H, W, 3).

    Nodules are outlined in green, UNSURE voxels in blue. The two slices shown may differ, as a nodule moves.
    """
    before, after = (
        [_labelled(one, None if found is None else found[i], scale) for i, one in enumerate(image)]
        for image, found in ((hu, labels), (changed_hu, changed_labels))
    )
    return montage([*before, *after], columns=len(before))


def _labelled(hu: NDArray[Any], labels: NDArray[np.uint8] | None, scale: int) -> NDArray[np.uint8]:
    if labels is None:
        return picture(hu, scale=scale)
    unsure = labels == UNSURE
    return picture(hu, (labels > 0) & ~unsure, unsure=unsure, scale=scale)


def _enlarge(image: NDArray[Any], scale: int) -> NDArray[Any]:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
