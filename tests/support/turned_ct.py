"""A CT whose array is stored in another order of its axes."""

from __future__ import annotations

from dataclasses import replace

from p2ch_luna.geometry import CtVolume, ImageGeometry


def turned(ct: CtVolume, axes: tuple[int, ...], signs: tuple[int, ...]) -> CtVolume:
    """The same scan with its array axes (index, row, col) swapped and flipped."""
    steps = ct.geometry.direction[:, ::-1] * signs  # columns: index, row, col
    first = ct.geometry.to_xyz([n - 1 if s < 0 else 0 for n, s in zip(ct.hu.shape, signs, strict=True)])
    hu = ct.hu[tuple(slice(None, None, s) for s in signs)].transpose(axes)
    spacing = ct.geometry.spacing_irc[list(axes)]
    return replace(ct, hu=hu, geometry=ImageGeometry(first, spacing[::-1], steps[:, list(axes)][:, ::-1]))
