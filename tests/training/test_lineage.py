"""Who a network has learnt from: also by the weights that it began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import bundled, load_card
from p2ch_luna.training import run_dir
from p2ch_luna.training.checks import proposer
from p2ch_luna.training.lineage import inherited, joined, kept, learnt_from, seen_before, seen_by

Config, Train = Callable[..., Any], Callable[..., Path]
SHORT: dict[str, Any] = {"loop": {"epochs": 1}, "validation": {"scans": 0}}
SWAPPED: dict[str, Any] = {"train_folds": [7], "validation_folds": [2]}  # chest-1 trains, chest-0 validates
OF_0332 = (  # two scans of one patient, LIDC-IDRI-0332
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094",
)


def patient_of(series_uid: str) -> str:
    """scan-1 and scan-1b are of the patient 1."""
    return series_uid.removeprefix("scan-").rstrip("b")


# what a split hands down


def test_who_taught_a_parent_and_its_parents_is_inherited() -> None:
    parent = {"train": ["b"], "train scans": ["s"], "pretrained on": ["a", "b"], "pretrained hosts": ["h"]}
    assert inherited(parent) == {
        "pretrained on": ["a", "b"],
        "pretrained scans": ["s"],
        "pretrained hosts": ["h"],
        "untouched folds": [],
    }


def test_what_is_inherited_is_found_again_in_the_own_split() -> None:
    earlier = inherited({"train": ["a"], "untouched folds": ["7", "8"]})
    assert kept(joined({"train": ["b"], "untouched folds": ["7", "8"]}, earlier)) == earlier


def test_a_fold_is_untouched_if_the_parent_did_not_touch_it_either() -> None:
    earlier = inherited({"train": ["a"], "untouched folds": ["7", "8"]})
    assert joined({"untouched folds": ["8", "9"]}, earlier)["untouched folds"] == ["8"]


def test_without_a_parent_a_split_is_as_it_was() -> None:
    split = {"train": ["b"], "untouched folds": ["8"]}
    assert joined(split, {}) == split
    assert kept(split) == {}


def test_patients_are_learnt_from_by_nodules_scans_and_backgrounds() -> None:
    split = {
        "train": ["1"], "train scans": ["scan-2"], "train hosts": ["scan-3b"], "pretrained on": ["4"],
        "pretrained scans": ["scan-5"], "pretrained hosts": ["scan-6"], "validation": ["7"],
    }  # fmt: skip
    assert learnt_from(split, patient_of) == set("123456")


# who validates


@pytest.mark.parametrize(
    ("trained", "judged", "seen"),
    [
        ({"train": ["1"]}, {"validation": ["1", "2"]}, ["1"]),
        ({"pretrained on": ["1"]}, {"validation": ["1"]}, ["1"]),
        ({"train scans": ["scan-1"]}, {"validation scans": ["scan-1b"]}, ["1"]),
        ({"train hosts": ["scan-1"]}, {"validation": ["1"]}, ["1"]),
        ({"train": ["1"]}, {"validation hosts": ["scan-1"]}, ["1"]),
        ({"train hosts": ["scan-1"]}, {"validation hosts": ["scan-1"]}, []),
        ({"validation": ["1"]}, {"validation": ["1"]}, []),
    ],
    ids=["patient", "parent's", "other scan", "background", "as background", "both backgrounds", "not seen"],
)
def test_who_validates_after_training_is_named(
    trained: dict[str, list[str]], judged: dict[str, list[str]], seen: list[str]
) -> None:
    assert seen_before(trained, judged, patient_of) == seen


def test_of_many_some_are_named() -> None:
    everybody = [str(number) for number in range(7)]
    told = seen_by({"train": everybody}, {"validation": everybody})
    assert told == "7 patients who validate here: 0, 1, 2, 3, 4, …"


def test_another_scan_of_a_patient_of_lidc_is_known() -> None:
    told = seen_by({"train scans": [OF_0332[0]]}, {"validation scans": [OF_0332[1]]})
    assert told == "1 patients who validate here: LIDC-IDRI-0332"


# whole runs


@pytest.fixture(scope="module")
def grandchild(
    make_config: Config, train: Train, segmentation_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The third of three runs, each of which begins as the one before; all learn from chest-0."""
    folder = tmp_path_factory.mktemp("lineage")
    child = train(make_config(start={"init_from": str(segmentation_run)}, **SHORT), folder / "child")
    return train(make_config(start={"init_from": str(child)}, **SHORT), folder / "grandchild")


def test_card_and_split_name_who_taught_the_first_of_three_runs(grandchild: Path) -> None:
    written = json.loads((grandchild / run_dir.SPLIT).read_text(encoding="utf-8"))
    for split in (written, load_card(grandchild / run_dir.MODEL).split):
        assert split["train"] == split["pretrained on"] == split["pretrained scans"] == ["chest-0"]


def test_a_run_of_fresh_weights_names_nobody_before(segmentation_run: Path) -> None:
    assert "pretrained on" not in load_card(segmentation_run / run_dir.MODEL).split


def test_weights_that_learnt_from_who_validates_are_refused(
    make_config: Config, train: Train, tmp_path: Path, grandchild: Path
) -> None:
    config = make_config(data=SWAPPED, start={"init_from": str(grandchild)}, **SHORT)
    with pytest.raises(LunaError, match=r"init_from = .*: trained on 1 patients who validate here: chest-0;"):
        train(config, tmp_path)
    assert not (tmp_path / run_dir.SPLIT).exists()


class Dies:
    """Is killed between the first epoch and the second."""

    def loaded(self, item: str) -> None:
        pass

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        pass

    def validating(self, done: int, total: int) -> None:
        pass

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def stopped(
    make_config: Config, train: Train, tmp_path: Path, segmentation_run: Path
) -> tuple[Any, Path, Path]:
    """Config and folder of a run with its second epoch to go; what it began with is gone. And the parent."""
    parent, run = tmp_path / "parent", tmp_path / "run"
    shutil.copytree(segmentation_run, parent)
    config = make_config(start={"init_from": str(parent)}, validation={"scans": 0})
    with pytest.raises(KeyboardInterrupt):
        train(config, run, Dies())
    shutil.move(parent, tmp_path / "moved")
    return config, run, tmp_path / "moved"


def test_a_resumed_run_needs_no_other_weights(stopped: tuple[Any, Path, Path], train: Train) -> None:
    config, run, _ = stopped
    train(config, run, resume=True)
    card = load_card(run / run_dir.MODEL)
    assert len(run_dir.load_history(run)) == 2
    assert card.split["pretrained on"] == ["chest-0"]


def test_a_resumed_run_ends_as_an_unbroken_one(
    stopped: tuple[Any, Path, Path], make_config: Config, train: Train, tmp_path: Path
) -> None:
    config, run, parent = stopped
    train(config, run, resume=True)
    again = make_config(start={"init_from": str(parent)}, validation={"scans": 0})
    unbroken = train(again, tmp_path / "unbroken")
    assert (run / run_dir.MODEL).read_bytes() == (unbroken / run_dir.MODEL).read_bytes()


def test_other_data_on_resume_are_named(stopped: tuple[Any, Path, Path], train: Train) -> None:
    config, run, _ = stopped
    split = json.loads((run / run_dir.SPLIT).read_text(encoding="utf-8"))
    (run / run_dir.SPLIT).write_text(json.dumps({**split, "train": ["chest-9"]}), encoding="utf-8")
    with pytest.raises(LunaError, match=r"split.json: train: chest-0 is new \(2 differ\)"):
        train(config, run, resume=True)


# who proposes


def test_a_segmentation_that_learnt_from_who_validates_is_told(
    make_config: Config,
    train: Train,
    tmp_path: Path,
    segmentation_run: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    validation = {"scans": 1, "segmentation": str(segmentation_run)}
    train(make_config("nodule", data=SWAPPED, validation=validation, loop={"epochs": 1}), tmp_path)
    assert "validation.segmentation = " in caplog.text
    assert "trained on 1 patients who validate here: chest-0; in whole scans it finds too well" in caplog.text


def test_a_segmentation_that_learnt_from_who_validates_picks_no_epoch(
    make_config: Config, train: Train, tmp_path: Path, segmentation_run: Path
) -> None:
    validation = {"scans": 1, "segmentation": str(segmentation_run)}
    config = make_config("nodule", data=SWAPPED, validation=validation, loop={"best_by": "cpm"})
    with pytest.raises(LunaError, match=r"trained on 1 patients .* loop.best_by = 'cpm' picks"):
        train(config, tmp_path)


def test_a_segmentation_of_the_same_sides_is_not_told_of(
    make_config: Config,
    train: Train,
    tmp_path: Path,
    segmentation_run: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    validation = {"scans": 1, "segmentation": str(segmentation_run)}
    train(make_config("nodule", validation=validation, loop={"epochs": 1, "best_by": "cpm"}), tmp_path)
    assert "validation.segmentation" not in caplog.text


def test_a_run_stands_for_its_model_that_proposes(make_config: Config, segmentation_run: Path) -> None:
    config = make_config("nodule", validation={"segmentation": str(segmentation_run)})
    assert proposer(config) == segmentation_run / run_dir.MODEL


def test_the_bundled_segmentation_proposes_where_none_is_named(make_config: Config) -> None:
    assert proposer(make_config("nodule")) == bundled("segmentation")


@pytest.mark.parametrize("task", ["segmentation", "malignancy"])
def test_nothing_else_proposes_for_other_tasks(make_config: Config, task: str) -> None:
    assert proposer(make_config(task)) is None


def test_without_whole_scans_nothing_proposes(make_config: Config) -> None:
    assert proposer(make_config("nodule", validation={"scans": 0, "segmentation": "nowhere"})) is None


def test_a_segmentation_that_is_not_there_is_named(make_config: Config) -> None:
    with pytest.raises(LunaError, match=r"validation.segmentation: nowhere: no such file; wanted"):
        proposer(make_config("nodule", validation={"segmentation": "nowhere"}))
