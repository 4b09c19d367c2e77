import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.lidc_labels import consensus_mask, finding_of, lidc_nodules
from p2ch_luna.datasets.lidc_matching import Evidence, check_grid, covering, match_all, pixel_grid
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import read_nodules
from p2ch_luna.io.lidc import LidcNodule, load_crop, read_lidc_nodules
from p2ch_luna.io.lidc_grids import read_crop_grids
from p2ch_luna.io.lidc_tables import LidcScan, LidcTables, load_lidc_tables, tables_of

LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
SEVERAL = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"  # three nodules of three readers
ORIGIN = (-170.0, -150.0)  # of its pixels, made up


@pytest.fixture(scope="module")
def tables() -> LidcTables:
    return load_lidc_tables()


def placed(tables: LidcTables, sign: int = 1) -> ImageGeometry:
    """A grid of SEVERAL with columns and rows to the left and back, or the other way round."""
    pixels = pixel_grid(tables, SEVERAL)
    origin = np.array([*ORIGIN, pixels.origin_xyz[2]])
    return ImageGeometry(origin, pixels.spacing_xyz, np.diag([float(sign), float(sign), 1.0]))


def annotated(tables: LidcTables, grid: ImageGeometry, shift_mm: float = 0.1) -> list[Nodule]:
    """SEVERAL's nodules of three readers and more, as a list like LUNA16's would have them."""
    return [
        Nodule(SEVERAL, (f.center_xyz[0] + shift_mm, *f.center_xyz[1:]), f.diameter_mm + 0.1)
        for f in lidc_nodules(tables, SEVERAL, grid)
        if f.readers >= 3
    ]


def single(tables: LidcTables, grid: ImageGeometry) -> list[Nodule]:
    """SEVERAL's first annotation, as `annotations_excluded.csv` lists such, and a place without a size."""
    first = finding_of(tables, (tables.annotations_of(SEVERAL)[0].annotation_id,), grid)
    return [Nodule(SEVERAL, first.center_xyz, first.diameter_mm), Nodule(SEVERAL, (0.0, 0.0, 0.0), -1.0)]


def test_with_a_header_distances_are_true(tables: LidcTables) -> None:
    grid = placed(tables)
    found = match_all(tables, annotated(tables, grid, 0.75), Evidence(headers={SEVERAL: grid}))
    assert {a.method for a in found} == {"header"}
    assert [a.match.distance_mm for a in found] == pytest.approx([0.75] * len(found))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_single_reader_tells_the_origin(tables: LidcTables, sign: int) -> None:
    grid = placed(tables, sign)
    found = match_all(tables, annotated(tables, grid, 0.75), Evidence(excluded=single(tables, grid)))
    assert {a.method for a in found} == {"readers"}
    assert [a.match.distance_mm for a in found] == pytest.approx([0.75] * len(found), abs=1e-3)


def test_a_single_reader_of_another_size_tells_nothing(tables: LidcTables) -> None:
    grid = placed(tables)
    (one, _) = single(tables, grid)
    other = Nodule(SEVERAL, one.center_xyz, one.diameter_mm + 0.01)
    found = match_all(tables, annotated(tables, grid), Evidence(excluded=[other]))
    assert {a.method for a in found} == {"nodules"}


def test_the_better_of_two_crops_is_taken(tables: LidcTables) -> None:
    grid = placed(tables)
    wrong = grid.moved_to([0, 3, 3])
    nodules = annotated(tables, grid, 0.75)
    found = match_all(tables, nodules, Evidence(crops={SEVERAL: [wrong, grid]}))
    assert {a.method for a in found} == {"crop"}
    assert [a.match.distance_mm for a in found] == pytest.approx([0.75] * len(found))


@pytest.mark.parametrize("sign", [1, -1])
def test_without_an_origin_nodules_are_found_by_their_places(tables: LidcTables, sign: int) -> None:
    nodules = annotated(tables, placed(tables, sign))
    found = match_all(tables, nodules, Evidence())
    wanted = [f.annotation_ids for f in lidc_nodules(tables, SEVERAL, placed(tables)) if f.readers >= 3]
    assert len(nodules) >= 2
    assert {a.method for a in found} == {"nodules"}
    assert [a.match.finding and a.match.finding.annotation_ids for a in found] == wanted


def test_without_an_origin_a_shift_is_fitted_away(tables: LidcTables) -> None:
    found = match_all(tables, annotated(tables, placed(tables), 0.75), Evidence())
    assert [a.match.distance_mm for a in found] == pytest.approx([0.0] * len(found), abs=1e-3)


def test_one_nodule_is_found_by_z_and_diameter(tables: LidcTables, shared_data: Path) -> None:
    (found,) = match_all(tables, truth(shared_data), Evidence())
    assert found.method == "slice"
    assert found.match.finding is not None
    assert found.match.finding.readers == 4


def test_what_is_unlike_in_z_and_diameter_is_not_found(tables: LidcTables) -> None:
    (found,) = match_all(tables, [Nodule(LIDC_IDRI_0001, (0.0, 0.0, 500.0), 5.0)], Evidence())
    assert (found.match.finding, found.patient_id) == (None, "LIDC-IDRI-0001")
    assert found.reason == "no origin, and none of 1 findings is like it in z and diameter"


def test_how_far_the_nearest_is_is_told(tables: LidcTables) -> None:
    grid = placed(tables)
    (nodule, *_) = annotated(tables, grid, 40.0)
    (found,) = match_all(tables, [nodule], Evidence(headers={SEVERAL: grid}))
    assert found.match.finding is None
    assert found.reason.startswith("the nearest of ")


def test_why_a_scan_is_not_used_is_told_of_what_is_not_found(tables: LidcTables) -> None:
    grid = placed(tables)
    (found, other) = annotated(tables, grid)[:2]
    lost = replace(other, center_xyz=(0.0, 0.0, 900.0))
    evidence = Evidence(refused={SEVERAL: "too short"}, crops={SEVERAL: [grid]})
    reasons = [a.reason for a in match_all(tables, [found, lost], evidence)]
    assert reasons[0] == ""
    assert reasons[1].endswith(" mm away; its scan is not used: too short")


def test_why_a_scan_is_not_used_is_told_where_nothing_can_be_found(tables: LidcTables) -> None:
    evidence = Evidence(refused={"1.2.3": "too short"})
    (found,) = match_all(tables, [Nodule("1.2.3", (0, 0, 0), 5.0)], evidence)
    assert found.reason == "its series is not in the tables; its scan is not used: too short"


def test_the_grid_that_the_readers_saw_is_taken(tables: LidcTables) -> None:
    check_grid(tables, SEVERAL, placed(tables))


@pytest.mark.parametrize(
    ("turned", "told"),
    [
        (lambda grid: grid.moved_to([1, 0, 0]), "outside the scan; expected the whole original series"),
        (lambda grid: replace(grid, spacing_xyz=grid.spacing_xyz * 1.02), "is the scan resampled"),
        (lambda grid: replace(grid, direction=grid.direction[[2, 0, 1]]), "expected axial ones"),
    ],
    ids=["cut", "resampled", "sagittal"],
)
def test_another_grid_is_refused(
    tables: LidcTables, turned: Callable[[ImageGeometry], ImageGeometry], told: str
) -> None:
    with pytest.raises(LunaError, match=told):
        check_grid(tables, SEVERAL, turned(placed(tables)))


def test_a_series_of_other_patients_is_accounted_for(tables: LidcTables) -> None:
    (found,) = match_all(tables, [Nodule("1.2.3", (0, 0, 0), 5.0)], Evidence())
    assert (found.method, found.patient_id, found.reason) == (None, None, "its series is not in the tables")


def test_a_series_without_annotations_is_accounted_for() -> None:
    tables = tables_of([LidcScan(1, "1.2.3", "P", 0.5, 2.0, 2.0)], [])
    (found,) = match_all(tables, [Nodule("1.2.3", (0, 0, 0), 5.0)], Evidence())
    assert (found.patient_id, found.reason) == ("P", "no reader outlined anything in its series")


def test_a_series_of_unknown_spacing_is_accounted_for(tables: LidcTables) -> None:
    bare = {k: LidcScan(k, scan.series_uid, None, None, None, None) for k, scan in tables.scans.items()}
    (found,) = match_all(replace(tables, scans=bare), [Nodule(LIDC_IDRI_0001, (0, 0, 0), 5.0)], Evidence())
    assert found.reason == "neither the scan's header nor its spacing is known"


def truth(shared_data: Path) -> list[Nodule]:
    nodules = read_nodules(shared_data / "luna16" / "annotations.csv")
    return [n for n in nodules if n.series_uid == LIDC_IDRI_0001]


def test_luna16s_single_readers_tell_the_origin_of_the_crops(tables: LidcTables, shared_data: Path) -> None:
    """Two sources that know nothing of each other: a few crops are off by a pixel, the most not at all."""
    crops = dict(list(read_crop_grids(shared_data / "lidc").items())[:30])
    nodules = [n for n in read_nodules(shared_data / "luna16" / "annotations.csv") if n.series_uid in crops]
    excluded = read_nodules(shared_data / "luna16" / "annotations_excluded.csv")
    by_readers = match_all(tables, nodules, Evidence(excluded=excluded))
    by_crops = match_all(tables, nodules, Evidence(crops=crops))
    apart = [
        np.linalg.norm(np.subtract(a.match.finding.center_xyz, b.match.finding.center_xyz))
        for a, b in zip(by_readers, by_crops, strict=True)
        if a.method == "readers" and a.match.finding and b.match.finding
    ]
    assert len(apart) > 30
    assert np.mean(np.array(apart) < 0.01) > 0.9
    assert max(apart) < 1.5


def dice_with_crop(tables: LidcTables, nodule: LidcNodule, grid: ImageGeometry, ids: list[int]) -> float:
    crop = load_crop(nodule)
    native = covering(tables, nodule.series_uid, grid)
    found = consensus_mask(tables, ids, native, crop.ct.geometry, crop.mask.shape)
    mask = np.zeros(crop.mask.shape, bool)
    if found is not None:
        ends = np.add(found.start_irc, found.mask.shape).tolist()
        mask[tuple(map(slice, found.start_irc, ends))] = found.mask
    return float(2 * (mask & crop.mask).sum() / (mask.sum() + crop.mask.sum()))


def all_dice(tables: LidcTables, folder: Path, step: int) -> list[float]:
    """Of every `step`th crop's mask with the consensus of the same annotations at the crop's place."""
    grids = {uid: iter(of_one) for uid, of_one in read_crop_grids(folder).items()}
    with (folder / "nodules.csv").open(newline="") as file:
        ids = [[int(k) for k in row["annotation_ids"].split()] for row in csv.DictReader(file)]
    own = [next(grids[nodule.series_uid]) for nodule in read_lidc_nodules(folder)]
    rows = list(zip(read_lidc_nodules(folder), own, ids, strict=True))[::step]
    return [dice_with_crop(tables, *row) for row in rows]


def test_the_consensus_is_the_crops(tables: LidcTables, shared_data: Path) -> None:
    assert min(all_dice(tables, shared_data / "lidc", 20)) > 0.999


@pytest.mark.slow
def test_the_consensus_is_that_of_all_crops(tables: LidcTables, shared_data: Path) -> None:
    found = all_dice(tables, shared_data / "lidc", 1)
    assert len(found) == 809
    assert min(found) > 0.9998


@pytest.mark.slow
def test_all_of_luna16_is_found(tables: LidcTables, shared_data: Path) -> None:
    nodules = read_nodules(shared_data / "luna16" / "annotations.csv")
    excluded = read_nodules(shared_data / "luna16" / "annotations_excluded.csv")
    found = match_all(tables, nodules, Evidence(excluded=excluded))
    known = [a for a in found if a.method == "readers"]
    distances = [a.match.distance_mm for a in found if a.match.distance_mm is not None]
    assert (len(found), len(distances), len(known)) == (1186, 1186, 1170)
    assert np.mean(distances) < 0.15
    assert max(distances) < 3.7
    assert min(a.match.finding.readers for a in found if a.match.finding) == 3


def test_a_header_of_the_whole_scan_serves(tables: LidcTables, lidc_ct: CtVolume, shared_data: Path) -> None:
    (found,) = match_all(tables, truth(shared_data), Evidence(headers={LIDC_IDRI_0001: lidc_ct.geometry}))
    assert found.method == "header"
    assert found.match.distance_mm is not None
    assert found.match.distance_mm < 0.3
