"""Calibrations of implanted scans by made-up networks: what is made, kept, refused and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import Diagnosis
from p2ch_luna.inference.detector import Silent
from p2ch_luna.models.checkpoint import Figure, ModelCard, card_path, load_card, load_model, save_model
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.report.benchmark.run import Bench
from p2ch_luna.report.benchmark.schema import Settings
from p2ch_luna.report.calibration.fit import CalibrationReport
from p2ch_luna.report.calibration.run import run_calibration

SETTINGS = Settings(
    copies=2, count=3, folds=tuple(range(10)), min_diameter_mm=3, max_diameter_mm=30, seed=0, device="cpu"
)
FALSE_XYZ = (0.0, 0.0, 0.0)  # between the lungs
LIKELY, UNLIKELY = 0.9, 0.2


def card(builder: str, split: dict[str, list[str]], sha256: str = "") -> ModelCard:
    return ModelCard(
        builder=builder, arguments={}, config={}, data=[], split=split, metrics={"auc": 0.9}, software="",
        weights_sha256=sha256,
    )  # fmt: skip


class DoubtingDetector:
    """Finds every ball of `bright`, and takes a place between the lungs for one too, less surely."""

    def __init__(self, bright: Any, split: dict[str, list[str]]) -> None:
        self.bright, self.proposal = bright, bright.proposal
        self.models = {
            "segmentation": card("segmentation_unet", {"train": []}, "0123456789abcdef"),
            "classifier": card("nodule_classifier", split, "fedcba9876543210"),
        }

    @property
    def calls(self) -> int:
        return int(self.bright.calls)

    def __call__(self, ct: CtVolume) -> Diagnosis:
        found = self.bright(ct)
        balls = [
            replace(mark, segmentation_probability=LIKELY, classifier_probability=LIKELY)
            for mark in found.detections
        ]
        doubt = replace(
            balls[0], center_xyz=FALSE_XYZ, segmentation_probability=LIKELY, classifier_probability=UNLIKELY
        )
        return replace(found, detections=[*balls, doubt], models=self.models)

    def two_stages(self) -> DoubtingDetector:
        return self

    def uncalibrated(self) -> DoubtingDetector:
        return self


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A classifier, small and untrained, with a card."""
    path = tmp_path / "nodule.safetensors"
    torch.manual_seed(0)
    small = card("nodule_classifier", {"train": []}).model_copy(update={"arguments": {"widths": [8, 8]}})
    save_model(path, NoduleClassifier(widths=[8, 8]), small)
    return path


Run = Callable[..., CalibrationReport]


@pytest.fixture
def run(write_host: Callable[..., Path], lidc: Path, tmp_path: Path, detector: Any, weights: Path) -> Run:
    """Calibrates into one folder, over and over."""
    host = write_host()

    def call(split: dict[str, list[str]] | None = None, **options: Any) -> CalibrationReport:
        doubting: Any = DoubtingDetector(detector, split or {"train": []})
        bench = Bench.read([host], lidc, None, doubting, SETTINGS)
        return run_calibration(bench, weights, tmp_path / "out", Silent(), lambda _: None, **options)

    return call


def test_balls_are_told_from_what_is_none(run: Run) -> None:
    report = run()
    assert (report.scans, report.nodules, report.on_nodules, report.on_nothing) == (2, 6, 6, 2)
    assert report.calibration.classifier > 0
    assert [point.sensitivity for point in report.calibration.operating_points] == [1.0] * 7
    assert report.error_after < report.error_before


def test_the_card_holds_it_and_the_rest_of_the_card_is_as_it_was(run: Run, weights: Path) -> None:
    before = load_card(weights)
    content = weights.read_bytes()
    report = run()
    after = load_card(weights)
    assert after.calibration == report.calibration
    assert after.model_copy(update={"calibration": None}) == before
    assert weights.read_bytes() == content
    load_model(weights)  # the card's hash is still that of the weights


def test_figures_that_do_not_hold_any_more_are_dropped_and_that_is_told(run: Run, weights: Path) -> None:
    figure = Figure(name="CPM", value=0.5, on="nodules, by luna robustness; searched by classifier 01234567")
    stale = load_card(weights).model_copy(update={"figures": (figure,)})
    card_path(weights).write_text(stale.model_dump_json(), encoding="utf-8")
    assert any(warning.startswith("the card's 1 figures") for warning in run().warnings)
    assert load_card(weights).figures == ()


def test_the_report_is_written(run: Run, tmp_path: Path) -> None:
    report = run()
    written = (tmp_path / "out" / "calibration.json").read_text(encoding="utf-8")
    assert CalibrationReport.model_validate_json(written) == report


def test_the_card_says_on_what_it_was_fitted(run: Run) -> None:
    on = run().calibration.on
    assert on.startswith(
        "2 scan(s) made of 1 chest(s) (host.mha), 3 LIDC nodules of 3 to 30 mm of fold 0, 1, 2,"
    )
    assert "1.3 nodules a scan; nothing of it was trained on (" in on


def test_the_calibration_names_the_segmentation_that_it_is_for(run: Run) -> None:
    assert run().calibration.segmentation_sha256 == "0123456789abcdef"


@pytest.mark.parametrize("split", [{"validation": ["P2"]}, {"validation hosts": ["host"]}])
def test_what_has_validated_a_network_is_told(run: Run, split: dict[str, list[str]]) -> None:
    assert (
        "nothing of it was trained on, but some has picked an epoch"
        in run({"train": [], **split}).calibration.on
    )


def test_what_was_made_is_used_again(run: Run, detector: Any) -> None:
    first = run()
    again = run(nodules_per_scan=5.0)
    assert detector.calls == 2
    assert again.calibration.intercept > first.calibration.intercept


def test_a_patient_that_was_trained_on_stops_it_before_anything_is_made(
    run: Run, detector: Any, weights: Path
) -> None:
    with pytest.raises(
        LunaError,
        match=r"the classifier network has learnt from 1 of the patients of nodules: P1; .*--also-trained",
    ):
        run({"train": ["P1"]})
    assert detector.calls == 0
    assert load_card(weights).calibration is None


def test_a_host_that_was_trained_on_stops_it(run: Run) -> None:
    with pytest.raises(LunaError, match="learnt from 1 of the hosts: host"):
        run({"train": [], "train hosts": ["host"]})


def test_it_goes_on_all_the_same_and_the_card_says_so(run: Run) -> None:
    report = run({"train": ["P1"]}, also_trained=True)
    assert "the classifier network has learnt from 1 of the patients of nodules: P1" in report.calibration.on
    assert "nothing of it was trained on" not in report.calibration.on
    assert any("P1" in warning for warning in report.warnings)


def test_a_failure_leaves_the_card_and_no_report(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LunaError("no")

    monkeypatch.setattr("p2ch_luna.report.calibration.run.calibrate", fail)
    before = card_path(weights).read_bytes()
    with pytest.raises(LunaError):
        run()
    assert card_path(weights).read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["parts"]


@pytest.fixture
def loaded() -> list[Any]:
    """What `NoduleDetector.load` was asked for: segmentation, classifier, device."""
    return []


Luna = Callable[..., tuple[object, str, str]]


@pytest.fixture
def luna(command: Callable[..., Luna], detector: Any, loaded: list[Any]) -> Luna:
    """Runs `luna calibrate` on a host."""

    def load(*paths: object) -> DoubtingDetector:
        loaded.append(paths)
        return DoubtingDetector(detector, {"train": []})

    return command("calibrate", copies=2, load=load)


def test_a_person_reads_the_fit_the_points_and_the_error(luna: Luna, weights: Path, tmp_path: Path) -> None:
    code, out, _ = luna("--model", weights)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("fitted on 2 scan(s) made of 1 chest(s) (host.mha)")
    assert lines[1] == "6 candidates on the 6 nodules, 2 on nothing; a scan is taken to have 1.3 nodules"
    assert lines[2].startswith("probability = sigmoid(")
    table = lines.index("FP/scan  from probability  sensitivity")
    rates = [line.split()[0] for line in lines[table + 1 : table + 8]]
    assert rates == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert lines[table + 1].split()[2] == "1.000"
    assert any(line.startswith("expected calibration error: ") for line in lines)
    assert lines[-1] == f"written: {card_path(weights)}, {tmp_path}/out/calibration.json"


def test_json_is_the_report_that_is_written(luna: Luna, weights: Path, tmp_path: Path) -> None:
    _, out, _ = luna("--model", weights, "--json")
    assert json.loads(out) == json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))


def test_a_model_that_is_not_there_is_told(luna: Luna, tmp_path: Path) -> None:
    code, _, err = luna("--model", tmp_path / "none")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"luna: error: {tmp_path}/none: no such file; wanted a model")


def test_without_a_model_it_is_wrong_usage(luna: Luna) -> None:
    assert luna()[0] == 2


def test_the_model_that_is_calibrated_judges(luna: Luna, weights: Path, loaded: list[Any]) -> None:
    luna("--model", weights)
    assert [paths[:2] for paths in loaded] == [(None, weights)]


def test_the_folder_of_a_run_stands_for_its_model(
    luna: Luna, weights: Path, tmp_path: Path, loaded: list[Any]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for suffix in (".safetensors", ".json"):
        weights.with_suffix(suffix).rename(run / f"model{suffix}")
    code, _, _ = luna("--model", run, "--segmentation", run)
    assert code == 0
    assert loaded[0][:2] == (run / "model.safetensors", run / "model.safetensors")
    assert load_card(run / "model.safetensors").calibration is not None
