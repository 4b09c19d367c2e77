"""A lung of even air, nodules that are balls, readings that are drawn: every voxel's value is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from p2ch_luna.datasets.implant import Implantable, make_implantable
from p2ch_luna.datasets.scans import LabelledScan, label_scan
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io.lidc import NoduleCrop
from p2ch_luna.io.lidc_tables import Drawn, LidcAnnotation, LidcScan, LidcTables, Outline, tables_of
from p2ch_luna.lungs import PreparedCt

UNRATED = (None,) * 9


def ball(shape: tuple[int, int, int], center: tuple[float, float, float], radius: float) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((a - c) ** 2 for a, c in zip(axes, center, strict=True)) <= radius**2


@pytest.fixture
def crop() -> NoduleCrop:
    """A ball of 5 mm radius and 100 HU in lung of -900 HU, on slices 2.5 mm apart, cut tight along z."""
    geometry = ImageGeometry.axial((0.5, 0.5, 2.5), (-30.0, 40.0, 100.0))
    z, y, x = np.meshgrid(*(np.arange(n) for n in (5, 41, 41)), indexing="ij")
    mask = ((z - 2) * 2.5) ** 2 + ((y - 20) * 0.5) ** 2 + ((x - 20) * 0.5) ** 2 <= 25
    return NoduleCrop(
        "ball", CtVolume("ball", np.where(mask, 100, -900).astype(np.int16), geometry), mask, 10.0, 4.0
    )


@pytest.fixture
def nodule(crop: NoduleCrop) -> Implantable:
    return make_implantable(crop)


@pytest.fixture
def prepared() -> PreparedCt:
    """80 x 96 x 96 mm of lung at -850 HU in a wall of 50 HU."""
    hu = np.full((96, 112, 112), 50, np.int16)
    lung = np.zeros(hu.shape, bool)
    lung[8:88, 8:104, 8:104] = True
    hu[lung] = -850
    return PreparedCt(
        CtVolume("1.2.3", hu, ImageGeometry.axial((1, 1, 1), (-50.0, -60.0, -300.0))), lung, None
    )


@pytest.fixture
def scan(prepared: PreparedCt) -> LabelledScan:
    return label_scan(prepared, [])


@pytest.fixture
def drawn() -> Callable[..., LidcTables]:
    """Makes tables of one series, 1.2.3: the outlines of each annotation, and their ratings if there are any.

    Pixels of 0.5 mm, slices of 2 mm; annotations are numbered 10, 20, 30 …
    """

    def call(
        *annotations: Sequence[Outline], ratings: Sequence[tuple[int | None, ...]] | None = None
    ) -> LidcTables:
        rated = ratings or [UNRATED] * len(annotations)
        return tables_of(
            [LidcScan(1, "1.2.3", "P", 0.5, 2.0, 2.0)],
            [
                Drawn(1, LidcAnnotation(10 * k, "a", of_one), outlines)
                for k, (outlines, of_one) in enumerate(zip(annotations, rated, strict=True), start=1)
            ],
        )

    return call
