"""`luna diagnose`: files, table, JSON and what it does with a bad request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import Diagnosis, NoduleDetector
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io import read_ct, read_detections, write_ct, write_series
from p2ch_luna.models.checkpoint import Calibration, ModelCard, OperatingPoint, bundled, save_model
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.report.schema import Report
from support.diagnosed import FixedDetector, names

N_FOUND = 120  # of them 25 are findings
UNCALIBRATED = ModelCard(
    builder="nodule_classifier", arguments={}, config={}, data=[], split={}, metrics={}, software=""
)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    hu = np.full((20, 30, 40), -1000, np.int16)
    hu[5:15, 8:22, 9:31] = 20
    path = tmp_path / "scan.mha"
    write_ct(path, CtVolume("1.2.3", hu, ImageGeometry.axial((1.0, 1.0, 2.0))))
    return path


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> FixedDetector:
    """Its classifier's card is read before it is loaded."""
    fixed = FixedDetector(N_FOUND)
    fixed.models = {"classifier": UNCALIBRATED}
    monkeypatch.setattr(NoduleDetector, "load", lambda *_, **__: fixed)
    monkeypatch.setattr("p2ch_luna.models.checkpoint.load_card", lambda _: fixed.models["classifier"])
    return fixed


@pytest.fixture
def luna(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `luna diagnose` with arguments, without pages if not asked for: exit code, stdout, stderr."""

    def run(*args: object, html: bool = False) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["diagnose", *map(str, args), *([] if html else ["--no-html"])])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err  # type: ignore[return-value]

    return run


Luna = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("detector")
def test_the_table_has_luna16_columns(luna: Luna, scan: Path, tmp_path: Path) -> None:
    luna(scan, "-o", tmp_path / "out")
    lines = (tmp_path / "out" / "detections.csv").read_text().splitlines()
    assert lines[0] == "seriesuid,coordX,coordY,coordZ,probability"
    assert lines[1].split(",")[1:] == ["15.0", "15.0", "30.0", "1.0"]


@pytest.mark.usefixtures("detector")
def test_no_more_marks_are_written_than_are_scored(luna: Luna, scan: Path, tmp_path: Path) -> None:
    luna(scan, "-o", tmp_path / "out")
    marks = read_detections(tmp_path / "out" / "detections.csv")
    assert [m.probability for m in marks] == [1 - k / N_FOUND for k in range(100)]


@pytest.mark.usefixtures("detector")
def test_json_on_stdout_is_the_report(luna: Luna, scan: Path, tmp_path: Path) -> None:
    code, out, _ = luna(scan, "-o", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text())


@pytest.mark.usefixtures("detector")
def test_the_report_holds_findings_and_warning(luna: Luna, scan: Path, tmp_path: Path) -> None:
    luna(scan, "-o", tmp_path / "out")
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
    assert len(report.findings) == 25
    assert report.warnings == ("the lungs are cut off",)
    assert report.scan.name == "scan.mha"


@pytest.mark.usefixtures("detector")
def test_a_person_reads_a_table(luna: Luna, scan: Path, tmp_path: Path) -> None:
    code, out, _ = luna(scan, "-o", tmp_path / "out")
    assert code == 0
    row = next(line for line in out.splitlines() if line.split()[:1] == ["F1"]).split()
    assert (row[1], row[-4:]) == ("16", ["1", "0.25", row[-2], "2"])
    assert "warning: the lungs are cut off" in out
    assert out.endswith("Research use only; not a medical device.\n")


@pytest.mark.usefixtures("detector")
def test_suspicion_has_a_column_and_is_explained(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, _ = luna(scan, "-o", tmp_path / "out")
    assert {"probability", "suspicion", "by", "size"} <= set(out.splitlines()[1].split())
    assert "suspicion of malignancy: radiologist suspicion, not pathology" in out


def test_suspicion_that_nobody_has_is_not_shown(
    luna: Luna, scan: Path, tmp_path: Path, detector: FixedDetector
) -> None:
    detector.malignancy_probability = None
    _, out, _ = luna(scan, "-o", tmp_path / "out")
    assert "not judged" in next(line for line in out.splitlines() if line.split()[:1] == ["F1"])
    assert "suspicion of malignancy:" not in out
    assert "warning: malignancy is not judged" in out


@pytest.mark.usefixtures("detector")
def test_without_a_calibration_a_fixed_probability_decides(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, _ = luna(scan, "-o", tmp_path / "out")
    assert "findings: from probability 0.8 on; the classifier is not calibrated" in out.splitlines()


@pytest.fixture
def calibrated(detector: FixedDetector) -> FixedDetector:
    """With operating points at probabilities of 0.95, 0.9 and 0.5."""
    points = tuple(
        OperatingPoint(fp_per_scan=rate, probability=probability, sensitivity=0.75)
        for rate, probability in ((0.125, 0.95), (1, 0.9), (4, 0.5))
    )
    fit = Calibration(segmentation=1, classifier=1, intercept=0, operating_points=points, on="scans", hosts=2)
    detector.models = {"classifier": UNCALIBRATED.model_copy(update={"calibration": fit})}
    return detector


@pytest.mark.usefixtures("calibrated")
@pytest.mark.parametrize(
    ("options", "n_findings"),  # of probabilities 1, 119 / 120, 118 / 120, …
    [([], 13), (["--operating-point", 1], 13), (["--operating-point", "1/8"], 7),
     (["--operating-point", 0.125], 7), (["--operating-point", "4"], 61)],
)  # fmt: skip
def test_findings_are_those_from_the_operating_point_on(
    luna: Luna, scan: Path, tmp_path: Path, options: list[object], n_findings: int
) -> None:
    code, out, _ = luna(scan, "-o", tmp_path / "out", "--json", *options)
    assert code == 0
    assert len(json.loads(out)["findings"]) == n_findings


@pytest.mark.usefixtures("calibrated")
def test_the_operating_point_is_told(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, _ = luna(scan, "-o", tmp_path / "out", "--operating-point", "1/8")
    assert (
        "findings: from probability 0.95 on, which brought 1/8 false positives a scan and found 75% where "
        "it was calibrated, in 2 chests" in out.splitlines()
    )


@pytest.mark.usefixtures("calibrated")
def test_an_operating_point_that_is_not_there_is_told_before_anything_is_read(
    luna: Luna, tmp_path: Path
) -> None:
    code, _, err = luna(tmp_path / "none.mha", "-o", tmp_path / "out", "--operating-point", 3)
    assert code == 1
    assert "wanted one of 1/8, 1, 4" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("detector")
def test_an_operating_point_needs_a_calibration(luna: Luna, scan: Path, tmp_path: Path) -> None:
    code, _, err = luna(scan, "-o", tmp_path / "out", "--operating-point", 1)
    assert code == 1
    assert "luna calibrate" in err.splitlines()[-1]


@pytest.mark.parametrize("rate", ["many", "1/0", "1e999"])
def test_a_rate_that_is_no_number_is_wrong_usage(luna: Luna, scan: Path, tmp_path: Path, rate: str) -> None:
    assert luna(scan, "-o", tmp_path / "out", "--operating-point", rate)[0] == 2


@pytest.mark.usefixtures("detector")
def test_without_html_there_are_no_pictures(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, _ = luna(scan, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["detections.csv", "nodules.nii.gz", "report.json"]
    assert "report.html" not in out


@pytest.mark.usefixtures("detector")
def test_the_page_to_look_at_is_named(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, _ = luna(scan, "-o", tmp_path / "out", html=True)
    assert f"look at: {tmp_path / 'out' / 'report.html'}" in out.splitlines()


@pytest.mark.usefixtures("detector")
def test_a_series_that_is_not_there_is_told(luna: Luna, scan: Path, tmp_path: Path) -> None:
    ct = read_ct(scan)
    write_series(tmp_path / "dicom", ct)
    code, _, err = luna(tmp_path / "dicom", "-o", tmp_path / "out", "--series", "1.2.99")
    assert code == 1
    assert "1.2.99" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("detector")
def test_progress_goes_to_stderr(luna: Luna, scan: Path, tmp_path: Path) -> None:
    _, out, err = luna(scan, "-o", tmp_path / "out")
    assert "looking" in err
    assert "looking" not in out


@pytest.mark.usefixtures("detector")
def test_a_scan_that_is_not_there_is_named(luna: Luna, tmp_path: Path) -> None:
    code, _, err = luna(tmp_path / "none.mha", "-o", tmp_path / "out")
    assert code == 1
    assert "none.mha" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_told_first(
    luna: Luna, scan: Path, detector: FixedDetector, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = luna(scan, "-o", tmp_path / "file")
    assert (code, detector.calls) == (1, 0)
    assert "file: is a file; expected the name of a folder" in err.splitlines()[-1]


@pytest.mark.parametrize("stage", ["segmentation", "classifier", "malignancy"])
def test_missing_weights_are_told_before_the_scan_is_read(luna: Luna, tmp_path: Path, stage: str) -> None:
    none = tmp_path / "none"
    code, _, err = luna(tmp_path / "none.mha", "-o", tmp_path / "out", f"--{stage}", none)
    assert code == 1
    assert err == f"luna: error: {none}: no such file; wanted a model (.safetensors) or a run's folder\n"


def test_a_scan_that_is_not_there_is_told_before_damaged_weights(luna: Luna, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.touch()
    code, _, err = luna(tmp_path / "none.mha", "-o", tmp_path / "out", "--segmentation", damaged)
    assert code == 1
    assert "none.mha: not there" in err.splitlines()[-1]


def test_an_output_that_cannot_be_written_is_told_before_damaged_weights(
    luna: Luna, scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "damaged.safetensors").touch()
    code, _, err = luna(scan, "-o", tmp_path / "file", "--segmentation", tmp_path / "damaged.safetensors")
    assert code == 1
    assert "file: is a file; expected the name of a folder" in err.splitlines()[-1]


def test_a_failure_leaves_the_old_results(
    luna: Luna, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FixedDetector):
        def __call__(self, ct: CtVolume, progress: Progress | None = None) -> Diagnosis:
            raise LunaError("scan: no")

    monkeypatch.setattr(NoduleDetector, "load", lambda *_, **__: Failing())
    (tmp_path / "out").mkdir()
    old = '{"schema_version": "3.0", "software": "p2ch-luna 0.1.0"}'
    (tmp_path / "out" / "report.json").write_text(old)
    code, _, _ = luna(scan, "-o", tmp_path / "out")
    assert code == 1
    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {"report.json": old}


def test_without_an_output_it_is_wrong_usage(luna: Luna, scan: Path) -> None:
    assert luna(scan)[0] == 2


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_weights_of_ones_own_are_used(luna: Luna, scan: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"widths": [8, 8, 8, 8]}
    networks = {"segmentation_unet": SegmentationUNet, "nodule_classifier": NoduleClassifier}
    weights: list[object] = []
    for task, name in (
        ("segmentation", "segmentation_unet"),
        ("classifier", "nodule_classifier"),
        ("malignancy", "nodule_classifier"),
    ):
        card = ModelCard(
            builder=name,
            arguments=arguments,
            config={"task": task},
            data=[],
            split={},
            metrics={},
            software="test",
        )
        save_model(tmp_path / task / "model.safetensors", networks[name](**arguments), card)
        weights += [f"--{task}", tmp_path / task]  # as the folder of a run
    code, out, _ = luna(scan, "-o", tmp_path / "out", *weights, "--device", "cpu", "--threads", 1, "--json")
    assert code == 0
    builders = {model["stage"]: model["builder"] for model in json.loads(out)["models"]}
    assert builders == {
        "segmentation": "segmentation_unet",
        "classifier": "nodule_classifier",
        "malignancy": "nodule_classifier",
    }


def test_a_classifier_is_not_taken_for_a_model_of_malignancy(luna: Luna, scan: Path, tmp_path: Path) -> None:
    code, _, err = luna(scan, "-o", tmp_path / "out", "--malignancy", bundled("nodule"))
    assert code == 1
    assert "wanted one for 'malignancy'" in err.splitlines()[-1]


def test_a_classifier_is_not_taken_for_a_segmentation(luna: Luna, scan: Path, tmp_path: Path) -> None:
    card = ModelCard(
        builder="nodule_classifier", arguments={}, config={}, data=[], split={}, metrics={}, software="test"
    )
    save_model(tmp_path / "a.safetensors", NoduleClassifier(), card)
    code, _, err = luna(scan, "-o", tmp_path / "out", "--segmentation", tmp_path / "a.safetensors")
    assert code == 1
    assert "wanted a segmentation_unet" in err.splitlines()[-1]
