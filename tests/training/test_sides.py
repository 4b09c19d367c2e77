"""What trains and what validates: refused before training where it cannot do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.datasets.collection import Sources
from p2ch_luna.datasets.sampling import Pick
from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.training.sides import Samples, Sides, check_batch, load_sides, make_batches
from p2ch_luna.training.tasks import TASKS
from p2ch_luna.training.world import World

ALONE = World(torch.device("cpu"))
FOLDS: Mapping[str, Sequence[int]] = {"train": [2], "validation": [7]}  # of chest-0 and chest-1


def sources(chests: Path, **changes: Any) -> Sources:
    plain = Sources(
        luna16=None, scans=[chests], annotations=chests / "annotations.csv", excluded=None,
        candidates=[chests / "candidates.csv"], hosts=[], validation_hosts=[], lidc=None, cubes=None,
        cube_patients=None,
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ScanCache:
    return ScanCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def sides(chests: Path, cache: ScanCache) -> Sides:
    return load_sides(sources(chests), FOLDS, cache, lambda _: None, ALONE)


def batches(sides: Sides, *, trains: bool, world: World = ALONE, **changes: Any) -> Samples:
    share = sides.train if trains else sides.validation
    plain = {"n_samples": 10, "batch_size": 4, "workers": 0, "seed": 0}
    sampling = changes.pop("sampling", {"nodules": 0.5, "candidates": 0.5})
    task = TASKS["segmentation"]
    return make_batches(task, share, sampling, [16] * 3, trains=trains, world=world, **{**plain, **changes})


def picks(samples: Samples) -> list[list[Pick]]:
    return list(samples.picks)


# the split


def test_each_side_has_the_scans_of_its_folds(sides: Sides) -> None:
    split = sides.split()
    assert (split["train"], split["validation"]) == (["chest-0"], ["chest-1"])
    assert (split["train scans"], split["validation scans"]) == (["chest-0"], ["chest-1"])
    assert split["train hosts"] == split["validation hosts"] == []


def test_folds_that_nobody_uses_are_said_to_be_untouched(sides: Sides) -> None:
    assert sides.split()["untouched folds"] == ["0", "1", "3", "4", "5", "6", "8", "9"]


def test_what_is_loaded_is_told(chests: Path, cache: ScanCache) -> None:
    told: list[str] = []
    load_sides(sources(chests), FOLDS, cache, told.append, ALONE)
    assert told == ["chest-0.mhd", "chest-1.mhd"]


def test_a_fold_without_scans_is_named(chests: Path, cache: ScanCache) -> None:
    folds = {**FOLDS, "validation": [7, 8]}
    with pytest.raises(LunaError, match=r"data.validation_folds: fold 8 has no scan; .*: 2, 7"):
        load_sides(sources(chests), folds, cache, lambda _: None, ALONE)


def test_a_patient_on_both_sides_is_refused(chests: Path, cache: ScanCache) -> None:
    host = chests / "chest-0.mhd"  # it has nodules of its own, and trains
    with pytest.raises(LunaError, match="chest-0"):
        load_sides(sources(chests, validation_hosts=[host]), FOLDS, cache, lambda _: None, ALONE)


def test_annotations_of_other_scans_are_named(chests: Path, cache: ScanCache, tmp_path: Path) -> None:
    text = (chests / "annotations.csv").read_text(encoding="utf-8").replace("chest-", "other-")
    (tmp_path / "annotations.csv").write_text(text, encoding="utf-8")
    changed = sources(chests, annotations=tmp_path / "annotations.csv")
    with pytest.raises(LunaError, match="its nodules are of no scan here, the first of other-0"):
        load_sides(changed, FOLDS, cache, lambda _: None, ALONE)


# no nodule anywhere


@pytest.mark.parametrize(("empty", "side"), [("chest-0", "train"), ("chest-1", "validation")])
def test_a_side_without_a_nodule_is_refused(
    chests: Path, cache: ScanCache, tmp_path: Path, empty: str, side: str
) -> None:
    shutil.copytree(chests, tmp_path / "chests")
    lines = (chests / "annotations.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(empty)]
    (tmp_path / "annotations.csv").write_text("".join(kept), encoding="utf-8")
    changed = sources(chests, annotations=tmp_path / "annotations.csv")
    loaded = load_sides(changed, FOLDS, cache, lambda _: None, ALONE)
    trains = side == "train"
    wanted = r"train: sampling.nodules = 0.5" if trains else r"validation: no sample holds a nodule"
    with pytest.raises(LunaError, match=wanted):
        batches(loaded, trains=trains)


def test_a_source_that_only_validation_lacks_is_left_out(
    sides: Sides, caplog: pytest.LogCaptureFixture
) -> None:
    found = batches(sides, trains=False, sampling={"nodules": 0.5, "cubes": 0.5})
    assert "validation: sampling.cubes = 0.5, but the data have no such sample" in caplog.text
    assert {pick.source for batch in picks(found) for pick in batch} == {0}


# batches


@pytest.mark.parametrize(("size", "accumulate", "processes"), [(8, 1, 8), (8, 2, 4), (8, 8, 1), (12, 3, 2)])
def test_a_batch_that_can_be_dealt_out_is_accepted(size: int, accumulate: int, processes: int) -> None:
    check_batch(size, accumulate, processes)


@pytest.mark.parametrize(("size", "accumulate", "processes"), [(8, 1, 3), (8, 3, 1), (8, 4, 4)])
def test_a_batch_that_cannot_be_dealt_out_is_refused(size: int, accumulate: int, processes: int) -> None:
    wanted = (
        rf"loop.batch_size = 8 among {processes} processes .*wanted a multiple of {processes * accumulate}:"
    )
    with pytest.raises(LunaError, match=wanted):
        check_batch(size, accumulate, processes)


def test_a_resumed_epoch_has_the_batches_that_were_left(sides: Sides) -> None:
    samples = batches(sides, trains=True)
    samples.go_to(3)
    whole = picks(samples)
    samples.go_to(3, 1)
    assert picks(samples) == whole[1:]


def test_every_epoch_trains_on_other_samples(sides: Sides) -> None:
    samples = batches(sides, trains=True)
    first = picks(samples)
    samples.go_to(1)
    assert picks(samples) != first


@pytest.mark.parametrize("trains", [True, False])
def test_two_processes_have_all_samples_once(sides: Sides, trains: bool) -> None:
    alone = [pick for batch in picks(batches(sides, trains=trains)) for pick in batch]
    parts = [
        [
            pick
            for batch in picks(batches(sides, trains=trains, world=World(ALONE.device, rank, 2)))
            for pick in batch
        ]
        for rank in range(2)
    ]
    assert sorted(parts[0] + parts[1]) == sorted(alone)


def test_a_batch_is_validated_by_one_process(sides: Sides) -> None:
    whole = picks(batches(sides, trains=False))
    second = batches(sides, trains=False, world=World(ALONE.device, 1, 2))
    assert picks(second) == whole[1::2]


def test_a_batch_is_what_was_picked(sides: Sides) -> None:
    samples = batches(sides, trains=True)
    (first, *_) = samples.batches
    assert first.hu.shape == (4, 1, 16, 16, 16)
