"""What no cross-validation begins with, and what it does not score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.training import run_dir

from .conftest import BOTH, FEW, Crossval, Done


@pytest.fixture
def refused(
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """What is said; nothing may have been trained or written."""
    monkeypatch.setattr("p2ch_luna.training.fit.fit", None)

    def call(*arguments: str, sets: tuple[str, ...] = (), nodule: bool = False) -> str:
        stages = [configs["segmentation"], *([configs["nodule"]] if nodule else [])]
        assert crossval(*stages, *arguments, out=tmp_path / "out", sets=(*FEW, *sets)) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return call


def test_one_fold_is_no_cross_validation(refused: Callable[..., str]) -> None:
    assert "--folds: 2 alone; wanted two folds or more" in refused("--folds", "2")


def test_a_fold_without_an_annotated_scan_is_refused(refused: Callable[..., str]) -> None:
    said = refused("--folds", "2,5,7")
    assert "--folds: fold 5 has no annotated scan; folds with scans: 2, 7" in said


def test_only_takes_some_of_the_folds(refused: Callable[..., str]) -> None:
    assert "--only: fold 3 is not in --folds 2,7" in refused(*BOTH, "--only", "3")


def test_weights_that_know_a_held_out_patient_are_refused(
    segmentations: Done, refused: Callable[..., str]
) -> None:
    parent = segmentations.out / "fold-2" / "segmentation"  # which has learnt from chest-1
    said = refused(*BOTH, sets=(f"start.init_from={parent}",))
    assert f"start.init_from = {parent}: trained on 1 patients who validate here: chest-1; wanted" in said


def test_a_background_of_a_held_out_patient_is_refused(chests: Path, refused: Callable[..., str]) -> None:
    said = refused(*BOTH, sets=(f'data.hosts=["{chests / "chest-0.mhd"}"]',))
    assert "--folds: while fold 2 is held out 1 patients train and validate: chest-0" in said


def test_both_configs_have_the_same_scans(refused: Callable[..., str]) -> None:
    said = refused(*BOTH, sets=("nodule:data.excluded=others.csv",), nodule=True)
    assert "data.excluded = 'others.csv'; wanted '', as in the segmentation's config" in said


def test_a_config_of_another_task_is_refused(
    configs: dict[str, Path], crossval: Crossval, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crossval(configs["nodule"], *BOTH, out=tmp_path) == 1
    assert "task = 'nodule'; wanted 'segmentation'" in capsys.readouterr().err


def test_several_processes_of_one_job_are_refused(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "luna crossval under torchrun" in refused(*BOTH)


# refused afterwards


def test_a_run_that_knew_who_is_held_out_is_not_scored(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(segmentations.out, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "fold-2" / "segmentation" / run_dir.SPLIT
    split = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**split, "pretrained on": ["chest-0"]}), encoding="utf-8")
    assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 1
    assert "cannot be judged by fold 2: 1 patients train and validate: chest-0" in capsys.readouterr().err


def test_a_fold_whose_weights_have_changed_is_diagnosed_again(
    segmentations: Done, configs: dict[str, Path], crossval: Crossval, tmp_path: Path
) -> None:
    shutil.copytree(segmentations.out, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "fold-2" / "fold.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "weights": {"segmentation": "others"}}), encoding="utf-8")
    assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == record
