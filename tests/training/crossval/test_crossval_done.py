"""From the configs to the pooled score, in one job or several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna.config import load_config
from p2ch_luna.datasets.sources import ScanError, ScanSource
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.io import read_candidates, read_ct, read_detections, read_nodules, read_series_uids
from p2ch_luna.metrics.froc import froc
from p2ch_luna.metrics.matching import MAX_MARKS_PER_SCAN, score_detections
from p2ch_luna.training import run_dir

from ..conftest import FOLDS
from .conftest import BOTH, CHEST, FEW, Crossval, Done, result_in


def test_each_fold_trains_both_stages_on_the_others(both_stages: Done) -> None:
    for fold, uid in CHEST.items():
        other = next(chest for chest in FOLDS if chest != uid)
        for stage in ("segmentation", "nodule"):
            split = json.loads((both_stages.out / f"fold-{fold}" / stage / "split.json").read_text("utf-8"))
            assert (split["train scans"], split["validation scans"]) == ([other], [uid])


def test_scans_that_train_are_mined_apart_from_those_held_out(both_stages: Done) -> None:
    folder = both_stages.out / f"fold-{FOLDS['chest-0']}"
    assert {c.series_uid for c in read_candidates(folder / "candidates.csv")} == {"chest-1"}
    assert {c.series_uid for c in read_candidates(folder / "candidates-held-out.csv")} == {"chest-0"}


def test_the_nodule_run_has_the_candidates_and_the_segmentation_of_its_fold(both_stages: Done) -> None:
    folder = both_stages.out / "fold-2"
    config = load_config(folder / "nodule" / run_dir.CONFIG)
    assert config.data.candidates == tuple(
        str(folder / name) for name in ("candidates.csv", "candidates-held-out.csv")
    )
    assert config.model_dump()["validation"]["segmentation"] == str(folder / "segmentation")


@pytest.mark.parametrize("fold", list(CHEST))
def test_a_held_out_scan_is_marked_as_luna_diagnose_does(both_stages: Done, chests: Path, fold: int) -> None:
    folder = both_stages.out / f"fold-{fold}"
    stages = (folder / stage / run_dir.MODEL for stage in ("segmentation", "nodule"))
    diagnosis = NoduleDetector.load(*stages)(read_ct(chests / f"{CHEST[fold]}.mhd"))
    marks = read_detections(folder / "detections.csv")
    most = MAX_MARKS_PER_SCAN + 1  # one more than count: it says which of the others do
    assert len(marks) == min(len(diagnosis.detections), most) > 0
    wanted = [(*d.center_xyz, d.probability) for d in diagnosis.detections[:most]]
    np.testing.assert_allclose([(*m.center_xyz, m.probability) for m in marks], wanted, rtol=1e-6)


def test_every_held_out_scan_is_pooled_once_with_its_nodules_and_marks(both_stages: Done) -> None:
    assert read_series_uids(both_stages.out / "seriesuids.csv") == ["chest-0", "chest-1"]
    assert len(read_nodules(both_stages.out / "annotations.csv")) == 6
    assert read_nodules(both_stages.out / "annotations_excluded.csv") == []
    of_folds = [read_detections(both_stages.out / f"fold-{fold}" / "detections.csv") for fold in (2, 7)]
    assert read_detections(both_stages.out / "detections.csv") == [*of_folds[0], *of_folds[1]]


def test_the_score_is_that_of_the_files_written(both_stages: Done) -> None:
    out = both_stages.out
    lists = (read_nodules(out / "annotations.csv"), [], read_series_uids(out / "seriesuids.csv"))
    outcome = score_detections(*lists, read_detections(out / "detections.csv"))
    assert both_stages.result["evaluation"]["cpm"] == froc(outcome).cpm
    assert both_stages.result["evaluation"]["nodules"] == 6
    assert [fold["nodules"] for fold in both_stages.result["per_fold"]] == [3, 3]
    assert both_stages.result["missing_folds"] == []


def test_a_fold_alone_is_scored_by_its_own_scan(both_stages: Done) -> None:
    nodules = read_nodules(both_stages.out / "annotations.csv")
    marks = read_detections(both_stages.out / "fold-7" / "detections.csv")
    outcome = score_detections([n for n in nodules if n.series_uid == "chest-1"], [], ["chest-1"], marks)
    assert both_stages.result["per_fold"][1]["cpm"] == froc(outcome).cpm


def test_what_is_done_is_not_done_again(
    both_stages: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    for name in ("training.fit.fit", "inference.detector.propose_candidates"):
        monkeypatch.setattr(f"p2ch_luna.{name}", never)
    assert crossval(configs["segmentation"], configs["nodule"], *BOTH, out=both_stages.out) == 0
    said = capsys.readouterr()
    assert "fold 2: done before\nfold 7: done before\n" in said.err
    assert f"CPM {both_stages.result['evaluation']['cpm']:.3f}" in said.out
    assert "epoch of each network was picked on its held-out fold" in said.out


def test_candidates_of_other_weights_are_told(
    both_stages: Done, configs: dict[str, Path], crossval: Crossval, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = both_stages.out / "fold-2"
    kept = {name: (folder / name).read_bytes() for name in ("candidates.json", "fold.json")}
    (folder / "candidates.json").write_text('{"segmentation": "others"}', encoding="utf-8")
    (folder / "fold.json").unlink()
    try:
        assert crossval(configs["segmentation"], configs["nodule"], *BOTH, out=both_stages.out) == 1
    finally:
        for name, content in kept.items():
            (folder / name).write_bytes(content)
    assert "its candidates are of another segmentation" in capsys.readouterr().err


# the segmentation alone, and folds by several jobs


def test_a_segmentation_alone_scores_by_its_own_probability(segmentations: Done) -> None:
    assert list(segmentations.result["configs"]) == ["segmentation"]
    marks = read_detections(segmentations.out / "fold-2" / "detections.csv")
    assert [mark.probability for mark in marks] == sorted((m.probability for m in marks), reverse=True)
    assert {path.name for path in (segmentations.out / "fold-2").iterdir()} == {
        "segmentation", "detections.csv", "fold.json",
    }  # fmt: skip


def test_folds_of_several_jobs_are_pooled_and_missing_ones_told(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert crossval(configs["segmentation"], *BOTH, "--only", "7", out=tmp_path) == 0
    assert "folds that are not done: 2; the figures are without them" in capsys.readouterr().out
    partly = result_in(tmp_path)
    assert partly["missing_folds"] == [2]
    assert (partly["evaluation"]["scans"], partly["evaluation"]["nodules"]) == (1, 3)
    assert read_series_uids(tmp_path / "seriesuids.csv") == ["chest-1"]
    assert crossval(configs["segmentation"], *BOTH, "--only", "2", out=tmp_path) == 0
    assert result_in(tmp_path) == segmentations.result


def test_a_fold_that_is_done_elsewhere_meanwhile_is_pooled_too(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from p2ch_luna.report import crossval as report

    shutil.copytree(segmentations.out / "fold-2", tmp_path / "fold-2")
    pool = report.pool

    def slow_pool(*arguments: Any) -> report.CrossvalReport:
        result = pool(*arguments)
        shutil.copytree(segmentations.out / "fold-7", tmp_path / "fold-7", dirs_exist_ok=True)
        return result

    monkeypatch.setattr(report, "pool", slow_pool)
    assert crossval(configs["segmentation"], *BOTH, "--only", "2", out=tmp_path) == 0
    assert result_in(tmp_path) == segmentations.result


def test_a_fold_of_other_folds_is_not_pooled(
    segmentations: Done, configs: dict[str, Path], crossval: Crossval, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (*FEW, "optim.lr=0.5")
    assert crossval(configs["segmentation"], *BOTH, out=segmentations.out, sets=sets) == 1
    assert "another config: optim.lr is 0.5, not 0.03 as its run began" in capsys.readouterr().err


def test_a_fold_where_another_process_is_at_work_is_left_to_it(
    configs: dict[str, Path], crossval: Crossval, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from p2ch_luna.io.file_locks import claiming

    (tmp_path / "fold-2").mkdir()
    with claiming(tmp_path / "fold-2" / ".lock"):
        assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 1
    assert "fold 2: another process is at work" in capsys.readouterr().err


def test_a_scan_that_cannot_be_read_is_told_and_tried_again(
    segmentations: Done,
    configs: dict[str, Path],
    crossval: Crossval,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def prepare(source: ScanSource, _: Any) -> None:
        raise ScanError(f"{source.path}: cut short")

    shutil.copytree(segmentations.out, tmp_path, dirs_exist_ok=True)
    (tmp_path / "fold-2" / "fold.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("p2ch_luna.datasets.sources.prepare_source", prepare)
        assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 0
    said = capsys.readouterr()
    assert "chest-0.mhd: cut short; in no figure" in said.err
    assert "scans that cannot be read, in no figure: chest-0" in said.out
    partly = result_in(tmp_path)
    assert (partly["left_out"], partly["missing_folds"]) == (["chest-0"], [])
    assert (partly["evaluation"]["scans"], partly["per_fold"][0]["cpm"]) == (1, None)
    assert crossval(configs["segmentation"], *BOTH, out=tmp_path) == 0
    assert result_in(tmp_path) == segmentations.result
