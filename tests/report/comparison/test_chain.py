"""The whole way: two scans are diagnosed, then compared. The growth and the move between them are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from p2ch_luna.datasets.implant import Pose, choose_places, implant, make_implantable
from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.alignment_views import Rigid
from p2ch_luna.inference.detector import Silent
from p2ch_luna.io import write_ct
from p2ch_luna.io.lidc import load_crop, read_lidc_nodules
from p2ch_luna.lungs import prepare
from p2ch_luna.report.comparison.run import compare, read_both
from p2ch_luna.report.comparison.schema import Compared, Comparison
from p2ch_luna.report.diagnose import diagnose
from p2ch_luna.report.outputs import Wanted
from support.moved_ct import moved_ct

pytestmark = pytest.mark.slow

DAYS = 200
FACTOR = 1.25  # of the diameter: 1.953 of the volume, which so doubles in 200 ln 2 / ln 1.953 = 207 days
ROTATION = Rotation.from_euler("xyz", (8, -6, 10), degrees=True).as_matrix()
WANTED = Wanted(page=False, dicom=False)


def compared(folder: Path, prior: CtVolume, current: CtVolume) -> Comparison:
    detector = NoduleDetector.load()
    for name, ct in (("prior", prior), ("current", current)):
        write_ct(folder / f"{name}.mha", ct)
        diagnose(folder / f"{name}.mha", folder / name, detector=detector, wanted=WANTED)
    return compare(*read_both(folder / "prior", folder / "current"), DAYS, Silent())


def found_at(comparison: Comparison, place: Point, is_current: bool = False) -> Compared:
    """The nodule that the earlier scan, or the later one, shows at a place."""
    sights = [(n.current if is_current else n.prior, n) for n in comparison.nodules]
    near = [n for s, n in sights if s and np.linalg.norm(np.subtract(s.center_lps_mm, place)) < 4]
    (nodule,) = near
    return nodule


def error_mm(comparison: Comparison, move: Rigid, places: list[Point]) -> float:
    laid = comparison.registration
    found = Rigid(np.array(laid.rotation), np.array(laid.shift_lps_mm))
    return float(np.linalg.norm(found(places) - move(places), axis=1).max())


# --- a phantom: three nodules grow; two are elsewhere, for the larger ones find no room where they were ---

MOVE = Rigid(ROTATION, np.array([30.0, -20.0, 55.0]))


@pytest.fixture(scope="module")
def phantoms() -> tuple[Phantom, Phantom]:
    """Of the same chest, which lies in the second image turned by as much as `MOVE` turns, the other way."""
    sizes = [6.0, 8.0, 10.0, 12.0, 7.0]
    before, after = (
        make_phantom(
            np.random.default_rng(1),
            shape_irc=(230, 400, 460),
            spacing_xyz=(0.8, 0.8, 1.25),
            diameters_mm=[factor * mm for mm in sizes],
            direction=direction,
        )
        for factor, direction in ((1.0, None), (FACTOR, ROTATION.T))
    )
    return before, after


@pytest.fixture(scope="module")
def grown(phantoms: tuple[Phantom, Phantom], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    before, after = phantoms
    own = after.ct.geometry
    moved = ImageGeometry(MOVE(own.origin_xyz), own.spacing_xyz, ROTATION @ own.direction)
    current = CtVolume("later", after.ct.hu, moved)
    return compared(tmp_path_factory.mktemp("phantoms"), before.ct, current)


def same_places(phantoms: tuple[Phantom, Phantom]) -> list[tuple[Point, bool]]:
    """Where the first phantom's nodules are, and whether the second has them there."""
    pairs = zip(*(phantom.nodules for phantom in phantoms), strict=True)
    return [
        (a.center_xyz, bool(np.linalg.norm(np.subtract(a.center_xyz, b.center_xyz)) < 2)) for a, b in pairs
    ]


def test_phantoms_are_aligned_within_a_millimetre(
    grown: Comparison, phantoms: tuple[Phantom, Phantom]
) -> None:
    assert error_mm(grown, MOVE, [n.center_xyz for n in phantoms[0].nodules]) < 1.0


@pytest.mark.parametrize(
    ("texture", "count", "by_mm_percent", "by_mm3_percent"),
    [("solid", 2, 6, 20), ("ground-glass", 1, 12, 35)],  # the edge of the latter is not clear
)
def test_their_growth_is_measured(
    grown: Comparison,
    phantoms: tuple[Phantom, Phantom],
    texture: str,
    count: int,
    by_mm_percent: float,
    by_mm3_percent: float,
) -> None:
    """By so many points off at most."""
    growths = [
        found_at(grown, place).growth
        for nodule, (place, stays) in zip(phantoms[0].nodules, same_places(phantoms), strict=True)
        if stays and nodule.texture == texture
    ]
    assert len(growths) == count
    for growth in growths:
        assert growth
        assert growth.diameter_percent == pytest.approx(25, abs=by_mm_percent)
        assert growth.volume_percent == pytest.approx(95.3, abs=by_mm3_percent)
        assert growth.doubling_days == pytest.approx(207, rel=by_mm3_percent / 100)
        assert growth.verdict in ("growing", "larger")  # of 6 mm a quarter is 1.5 mm and no more


def test_what_is_gone_is_vanished(grown: Comparison, phantoms: tuple[Phantom, Phantom]) -> None:
    gone = [place for place, stays in same_places(phantoms) if not stays]
    assert [found_at(grown, place).status for place in gone] == ["vanished", "vanished"]


def test_what_has_come_is_new(grown: Comparison, phantoms: tuple[Phantom, Phantom]) -> None:
    come = [
        n.center_xyz
        for n, (_, stays) in zip(phantoms[1].nodules, same_places(phantoms), strict=True)
        if not stays
    ]
    seen = [found_at(grown, tuple(MOVE(place).tolist()), is_current=True).status for place in come]
    assert seen == ["new", "new"]


# --- a real chest: real nodules set in, larger in the later scan; its own nodule stays ---

OWN: Point = (56.4, 86.1, -115.3)


@pytest.fixture(scope="module")
def implanted(
    lidc_ct: CtVolume, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, Rigid, list[Point]]:
    rng = np.random.default_rng(5)
    prepared = prepare(lidc_ct)
    table = [n for n in read_lidc_nodules(shared_data / "lidc") if 7 <= n.diameter_mm <= 11]
    nodules = [make_implantable(load_crop(table[i])) for i in rng.choice(len(table), 4, replace=False)]
    places = choose_places(prepared, [FACTOR * n.diameter_mm / 2 for n in nodules], rng)
    before, after = (
        implant(lidc_ct, nodules, places, [Pose(zoom=zoom)] * len(nodules))[0] for zoom in (1.0, FACTOR)
    )
    middle = np.mean(places, axis=0)
    move = Rigid(ROTATION, middle - ROTATION @ middle + (25.0, -30.0, 60.0))
    folder = tmp_path_factory.mktemp("implanted")
    return compared(folder, before, moved_ct(after, move, rng)), move, places


def test_a_real_chest_is_aligned_within_a_millimetre(
    implanted: tuple[Comparison, Rigid, list[Point]],
) -> None:
    assert error_mm(*implanted) < 1.0


def test_nodules_set_in_larger_have_grown(implanted: tuple[Comparison, Rigid, list[Point]]) -> None:
    comparison, _, places = implanted
    for place in places:
        growth = found_at(comparison, place).growth
        assert growth
        assert growth.diameter_percent == pytest.approx(25, abs=10)
        assert growth.volume_percent == pytest.approx(95.3, abs=16)
        assert growth.doubling_days == pytest.approx(207, rel=0.15)
        assert growth.verdict == "growing"


def test_its_own_nodule_is_stable(implanted: tuple[Comparison, Rigid, list[Point]]) -> None:
    growth = found_at(implanted[0], OWN).growth
    assert growth
    assert growth.volume_percent == pytest.approx(0, abs=10)
    assert growth.doubling_days is None
    assert growth.verdict == "stable"
