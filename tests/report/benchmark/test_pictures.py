"""Which places the montages show, and that a tile shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from p2ch_luna.datasets.benchmark import BenchmarkScan, Implanted
from p2ch_luna.findings import Detection, Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.report.benchmark.parts import Part
from p2ch_luna.report.benchmark.pictures import (
    PIXEL_MM,
    SIDE_MM,
    Spot,
    montages_of,
    spread,
    tile_of,
    write_pictures,
)
from p2ch_luna.report.benchmark.schema import score_parts

NODULES = {20.0: 6.0, 60.0: 12.0, 100.0: 9.0}  # place along x, diameter


def mark(x: float, probability: float) -> Detection:
    return Detection("A-1", (x, 20.0, 20.0), probability, 5.2, 65.0, 0.9, 0.9, 0.1)


@pytest.fixture
def parts() -> list[Part]:
    """The nodule of 9 mm is found at 0.8; that of 6 mm below five false marks, that of 12 mm not at all."""
    implanted = [
        Implanted(f"L{x:g}", Nodule("A-1", (x, 20.0, 20.0), d), None, None) for x, d in NODULES.items()
    ]
    false = [mark(120 - 2 * k, 0.5 + 0.08 * k) for k in range(5)]
    return [
        Part(
            key="k",
            host="a-host-with-a-name-that-is-long",
            series_uid="A-1",
            is_kept=False,
            implanted=tuple(implanted),
            excluded=(),
            detections=(*false, mark(100, 0.8), mark(20, 0.3)),
            warnings=(),
            seconds=1.0,
        )
    ]


@pytest.fixture
def scan() -> BenchmarkScan:
    """Lung of -850 HU with the three balls."""
    shape = (41, 41, 141)
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    for label, (at, diameter) in enumerate(NODULES.items(), start=1):
        labels[(x - at) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 <= (diameter / 2) ** 2] = label
    hu = np.where(labels > 0, 100, -850).astype(np.int16)
    return BenchmarkScan(CtVolume("A-1", hu, ImageGeometry.axial()), labels, [], [])


def test_what_is_found_is_told_with_diameter_score_and_the_end_of_the_hosts_name(parts: list[Part]) -> None:
    found = montages_of(parts, score_parts(parts))[0]
    assert [spot.caption for spot in found.spots] == ["9.0 mm  p 0.80\n…a-name-that-is-long"]
    assert found.title.startswith("1 of the 1 nodules found at 4 FP/scan")


def test_the_largest_that_was_missed_is_shown_first(parts: list[Part]) -> None:
    missed = montages_of(parts, score_parts(parts))[1]
    assert [(spot.label, spot.caption.split("\n")[0]) for spot in missed.spots] == [
        (2, "12.0 mm  no mark"), (1, "6.0 mm  p 0.30")
    ]  # fmt: skip


def test_the_strongest_false_positive_is_shown_first(parts: list[Part]) -> None:
    false = montages_of(parts, score_parts(parts))[2]
    assert [spot.caption.split("\n")[0] for spot in false.spots] == [
        f"5.2 mm  p {p:.2f}" for p in (0.82, 0.74, 0.66, 0.58, 0.5)
    ]
    assert {spot.label for spot in false.spots} == {None}


def test_a_sample_has_both_ends_and_is_even() -> None:
    assert spread([9, 8, 7, 6, 5], 3) == [9, 7, 5]
    assert spread([9, 8], 3) == [9, 8]
    assert spread([], 3) == []


def test_a_tile_has_the_nodule_and_its_outline_in_the_middle(scan: BenchmarkScan) -> None:
    tile = tile_of(Spot("A-1", (60.0, 20.0, 20.0), 2, ""), scan)
    side = round(SIDE_MM / PIXEL_MM)
    assert tile.hu.shape == (side, side)
    assert tile.outline is not None
    inside = np.argwhere(tile.outline > tile.outline.max() / 2)
    np.testing.assert_allclose(inside.mean(axis=0), side / 2, atol=0.6)
    area_mm2 = len(inside) * PIXEL_MM**2
    assert area_mm2 == pytest.approx(np.pi * 36, rel=0.06)
    assert (tile.hu[tile.outline > 0.99] > 0).all()


def test_a_neighbour_is_not_in_the_outline(scan: BenchmarkScan) -> None:
    scan.labels[19:22, 25:27, 65:67] = 3  # outside of the ball, inside of its box
    tile = tile_of(Spot("A-1", (60.0, 20.0, 20.0), 2, ""), scan)
    assert tile.outline is not None
    assert tile.outline[59:, 59:].max() < 0.3  # from 5.5 mm on in both directions


def test_a_false_positive_has_no_outline(scan: BenchmarkScan) -> None:
    assert tile_of(Spot("A-1", (120.0, 20.0, 20.0), None, ""), scan).outline is None


def test_a_nodule_too_small_for_a_voxel_has_none_either(scan: BenchmarkScan) -> None:
    assert tile_of(Spot("A-1", (120.0, 20.0, 20.0), 4, ""), scan).outline is None


def test_three_files_are_written_and_the_scans_are_asked_for_once(
    parts: list[Part], scan: BenchmarkScan, tmp_path: Path
) -> None:
    asked = []

    def scans(wanted: object) -> list[BenchmarkScan]:
        asked.append(list(wanted))  # type: ignore[call-overload]
        return [scan]

    write_pictures(tmp_path, parts, score_parts(parts), scans)
    assert asked == [["A-1"]]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["false_positives.png", "found.png", "missed.png"]
    with Image.open(tmp_path / "missed.png") as image:
        colours = np.array(image.convert("RGB")).reshape(-1, 3).astype(int)
    is_orange = (abs(colours - [0xFF, 0x9F, 0x1C]) < 40).all(axis=1)
    assert is_orange.sum() > 20


def test_nothing_missed_is_a_picture_too(parts: list[Part], scan: BenchmarkScan, tmp_path: Path) -> None:
    every = [mark(x, 0.9) for x in NODULES]
    found = [parts[0].model_copy(update={"detections": tuple(every)})]
    write_pictures(tmp_path, found, score_parts(found), lambda _: [scan])
    with Image.open(tmp_path / "missed.png") as image:
        assert image.size[0] > 500
