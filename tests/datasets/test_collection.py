"""What each side of a split owns: real tables, small phantoms."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.collection import Share, Sources, check_sides, cut_out, load_share, read_known
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.datasets.scans import label_scan
from p2ch_luna.datasets.splits import check_no_leak, fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.io import write_candidates, write_ct, write_nodules
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.lungs import PreparedCt

CUBES = Path(__file__).parents[2] / "data" / "lidc" / "cubes.csv"
UIDS = {0: "1.2.840.8", 6: "1.2.840.9"}  # a series uid whose fold by id is this
PATIENT_0332 = (  # two scans of one patient, LIDC-IDRI-0332, in subsets 2 and 6 of LUNA16
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094",
)
NOTHING = Sources(
    luna16=None, scans=[], annotations=None, excluded=None, candidates=[], hosts=[], validation_hosts=[],
    lidc=None, cubes=None, cube_patients=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ScanCache:
    return ScanCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two annotated scans, of two folds by their ids, with candidates."""
    folder = tmp_path_factory.mktemp("scans")
    truth: list[Nodule] = []
    for fold, uid in UIDS.items():
        truth += write_phantom(folder / f"{uid}.mhd", uid, seed=fold)
    write_nodules(folder / "annotations.csv", truth)
    candidates = [Candidate(n.series_uid, n.center_xyz, 0.9, 1e3, 12.0, True) for n in truth]
    write_candidates(folder / "candidates.csv", candidates)
    return folder


@pytest.fixture(scope="module")
def luna16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LUNA16's layout: the same scans, and both of LIDC-IDRI-0332, in subsets that their ids do not say."""
    folder = tmp_path_factory.mktemp("luna16")
    truth = []
    for subset, uid in ((3, UIDS[0]), (4, UIDS[6]), (2, PATIENT_0332[0]), (6, PATIENT_0332[1])):
        truth += write_phantom(folder / f"subset{subset}" / f"{uid}.mhd", uid, seed=subset)
    write_nodules(folder / "annotations.csv", truth)
    write_nodules(folder / "annotations_excluded.csv", [])
    (folder / "seriesuids.csv").write_text("\n".join([*UIDS.values(), *PATIENT_0332]) + "\n")
    return folder


def write_phantom(path: Path, uid: str, seed: int) -> list[Nodule]:
    made = make_phantom(
        np.random.default_rng(seed), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0),
        n_nodules=2, diameters_mm=[16, 18], series_uid=uid,
    )  # fmt: skip
    write_ct(path, made.ct)
    return made.truth


@pytest.fixture(scope="module")
def sources(scans: Path) -> Sources:
    """The annotated scans alone."""
    return replace(NOTHING, scans=[scans], annotations=scans / "annotations.csv")


@pytest.fixture(scope="module")
def load(cache: ScanCache) -> Callable[..., Share]:
    def share(sources: Sources, *folds: int, trains: bool = True) -> Share:
        return load_share(read_known(sources), sources, folds, cache, trains=trains)

    return share


def uids(share: Share) -> set[str]:
    return {scan.series_uid for scan in share.scans}


@pytest.mark.parametrize("fold", UIDS)
def test_a_scan_is_on_the_side_of_its_fold_alone(
    load: Callable[..., Share], sources: Sources, fold: int
) -> None:
    assert fold_of(UIDS[fold]) == fold
    assert uids(load(sources, fold)) == {UIDS[fold]}


def test_a_scan_has_its_own_nodules(load: Callable[..., Share], sources: Sources) -> None:
    assert len(load(sources, 0).scans[0].nodules) == 2


def test_a_scan_of_luna16_is_in_the_fold_of_its_subset(load: Callable[..., Share], luna16: Path) -> None:
    assert uids(load(replace(NOTHING, luna16=luna16), 3)) == {UIDS[0]}


def test_the_fold_is_the_same_where_other_subsets_are_missing(
    load: Callable[..., Share], luna16: Path, tmp_path: Path
) -> None:
    (tmp_path / "subset3").symlink_to(luna16 / "subset3")
    for table in luna16.glob("*.csv"):
        (tmp_path / table.name).symlink_to(table)
    assert uids(load(replace(NOTHING, luna16=tmp_path), 3)) == {UIDS[0]}


def test_a_patient_of_a_training_and_another_subset_does_not_train(
    load: Callable[..., Share], luna16: Path
) -> None:
    sources = replace(NOTHING, luna16=luna16)
    train, validation = load(sources, 2, 3), load(sources, 6, trains=False)
    assert uids(train) == {UIDS[0]}
    assert uids(validation) == {PATIENT_0332[1]}
    check_no_leak(train.patients, validation.patients)


def test_a_patient_whose_subsets_all_train_does(load: Callable[..., Share], luna16: Path) -> None:
    train = load(replace(NOTHING, luna16=luna16), 2, 6)
    assert uids(train) == set(PATIENT_0332)
    assert train.patients == {"LIDC-IDRI-0332"}


def test_lists_that_are_missing_are_told(
    load: Callable[..., Share], luna16: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "subset3").symlink_to(luna16 / "subset3")
    with pytest.raises(LunaError, match=r"no annotations.csv there; wanted LUNA16's list of nodules"):
        load(replace(NOTHING, luna16=tmp_path), 3)
    (tmp_path / "annotations.csv").symlink_to(luna16 / "annotations.csv")
    with caplog.at_level(logging.WARNING):
        load(replace(NOTHING, luna16=tmp_path), 3)
    assert "no annotations_excluded.csv there" in caplog.text


def test_no_crop_of_a_patient_unknown_beside_luna16_is_used(luna16: Path, shared_data: Path) -> None:
    sources = replace(NOTHING, luna16=luna16, lidc=shared_data / "lidc")
    known = read_known(sources)
    assert len(known.crops) == 809
    assert [c for c in known.crops if known.folds.are_within(c.patient_id, range(10))] == [
        c for c in known.crops if c.patient_id == "LIDC-IDRI-0332"
    ]


def test_no_patient_is_on_both_sides(load: Callable[..., Share], shared_data: Path, sources: Sources) -> None:
    real = replace(
        sources, cubes=shared_data / "lidc" / "cubes", cube_patients=CUBES, lidc=shared_data / "lidc"
    )
    train, validation = load(real, 0), load(real, 6, trains=False)
    assert all((train.nodules, validation.nodules, train.cubes))
    check_no_leak(train.patients, validation.patients)


def test_hosts_are_of_one_side_each(load: Callable[..., Share], scans: Path) -> None:
    train, validation = (scans / f"{UIDS[fold]}.mhd" for fold in (0, 6))
    sources = replace(NOTHING, hosts=[train], validation_hosts=[validation])
    found = [load(sources, 3, trains=trains).hosts for trains in (True, False)]
    assert [[host.series_uid for host in hosts] for hosts in found] == [[UIDS[0]], [UIDS[6]]]


def test_a_host_that_validates_as_a_scan_is_a_leak(cache: ScanCache, scans: Path, sources: Sources) -> None:
    leaky = replace(sources, hosts=[scans / f"{UIDS[6]}.mhd"], annotations=None)
    known = read_known(leaky)
    train, validation = (
        load_share(known, leaky, [fold], cache, trains=trains) for fold, trains in ((0, True), (6, False))
    )
    with pytest.raises(LunaError, match=f"1 patients train and validate: {UIDS[6]}"):
        check_sides(known, train, validation)


@pytest.mark.parametrize("is_annotated", [True, False])
def test_a_background_of_both_sides_must_have_no_nodules_of_its_own(
    cache: ScanCache, scans: Path, is_annotated: bool
) -> None:
    host = [scans / f"{UIDS[0]}.mhd"]
    table = scans / "annotations.csv" if is_annotated else None
    sources = replace(NOTHING, hosts=host, validation_hosts=host, annotations=table)
    known = read_known(sources)
    sides = [load_share(known, sources, [3], cache, trains=trains) for trains in (True, False)]
    if is_annotated:
        with pytest.raises(LunaError, match=f"1 patients train and validate: {UIDS[0]}"):
            check_sides(known, *sides)
    else:
        check_sides(known, *sides)


def test_a_scan_named_twice_is_used_once(load: Callable[..., Share], sources: Sources, scans: Path) -> None:
    twice = replace(sources, scans=[scans, scans / f"{UIDS[0]}.mhd"])
    assert [scan.series_uid for scan in load(twice, 0).scans] == [UIDS[0]]


def test_a_scan_of_luna16_that_lies_elsewhere_too_is_told_and_not_used(
    load: Callable[..., Share], luna16: Path, scans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        share = load(replace(NOTHING, luna16=luna16, scans=[scans / f"{UIDS[6]}.mhd"]), 3, 4)
    assert uids(share) == {UIDS[0]}
    assert "the same series uid at 2 places" in caplog.text


def test_candidates_are_those_of_the_scans_of_a_side(
    load: Callable[..., Share], sources: Sources, scans: Path
) -> None:
    share = load(replace(sources, candidates=[scans / "candidates.csv"]), 0)
    assert (len(share.candidates), share.candidates.is_nodule.all()) == (2, True)


def test_a_scan_that_cannot_be_read_is_told_and_left_out(
    load: Callable[..., Share],
    sources: Sources,
    scans: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for path in scans.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    raw = tmp_path / f"{UIDS[0]}.raw"
    raw.write_bytes(raw.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        share = load(replace(sources, scans=[tmp_path]), 0, 6)
    assert uids(share) == {UIDS[6]}
    assert f"{UIDS[0]}.raw" in caplog.text
    assert "not used" in caplog.text


def test_a_host_that_is_not_there_is_an_error(load: Callable[..., Share]) -> None:
    with pytest.raises(LunaError, match=r"absent.mha: no such file"):
        load(replace(NOTHING, hosts=[Path("absent.mha")]), 0)


def test_each_item_loaded_is_told(sources: Sources, cache: ScanCache) -> None:
    heard: list[str] = []
    load_share(read_known(sources), sources, [0], cache, heard.append, trains=True)
    assert heard == [f"{UIDS[0]}.mhd"]


def test_folds_without_a_scan_are_refused(load: Callable[..., Share], sources: Sources) -> None:
    with pytest.raises(LunaError, match=r"no scan in folds \[3\]: wanted data.luna16, data.scans or"):
        load(sources, 3)


def test_annotations_of_other_scans_are_refused(
    load: Callable[..., Share], sources: Sources, tmp_path: Path
) -> None:
    write_nodules(tmp_path / "other.csv", [Nodule("9.9.9", (0.0, 0.0, 0.0), 5.0)])
    with pytest.raises(
        LunaError, match=r"other.csv: its nodules are of no scan .* 9\.9\.9; .* 1\.2\.840\.8$"
    ):
        load(replace(sources, annotations=tmp_path / "other.csv"), 0)


def test_a_fold_without_annotated_nodules_is_no_error(
    load: Callable[..., Share], sources: Sources, tmp_path: Path
) -> None:
    write_nodules(tmp_path / "one.csv", [Nodule(UIDS[6], (0.0, 0.0, 0.0), 5.0)])
    share = load(replace(sources, annotations=tmp_path / "one.csv"), 0)
    assert share.scans[0].nodules == ()


def test_a_scans_own_nodule_is_cut_out_with_its_surroundings(prepared: PreparedCt) -> None:
    place = (0.0, -10.0, -255.0)  # voxel (45, 50, 50)
    prepared.ct.hu[45, 50, 50] = 77
    (found,) = cut_out([label_scan(prepared, [Nodule("1.2.3", place, 10.0, malignancy=4.0)])])
    assert (found.diameter_mm, found.malignancy, found.name) == (10.0, 4.0, "1.2.3-1")
    np.testing.assert_allclose(found.geometry.to_xyz(found.center_irc), place, atol=0.01)
    assert found.hu[tuple(np.rint(found.center_irc).astype(int))] == 77
