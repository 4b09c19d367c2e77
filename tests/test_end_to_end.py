"""The bundled networks on whole scans that they were not trained on."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.datasets.implant import implant_at_random, implantable_nodules
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.fast import ready
from p2ch_luna.inference.propose import DEFAULT_PROPOSAL
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.io import read_ct, read_detections, read_mask, read_nodules, write_ct
from p2ch_luna.io.tables import ScoredPoint
from p2ch_luna.lungs import prepare
from p2ch_luna.metrics.froc import froc
from p2ch_luna.metrics.matching import score_detections
from p2ch_luna.metrics.surface import agreement
from p2ch_luna.models.checkpoint import WEIGHTS, bundled, load_card, load_model
from p2ch_luna.report.schema import Report

pytestmark = pytest.mark.slow

HOSTS_EXCLUDED = Path(__file__).parents[1] / "data" / "hosts_excluded.csv"
LIDC_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"


def diagnose(scan: Path, out: Path) -> list[ScoredPoint]:
    with pytest.raises(SystemExit) as done:
        main(["diagnose", str(scan), "--output", str(out), "--device", "cpu"])
    assert done.value.code == 0
    return read_detections(out / "detections.csv")


@pytest.fixture(scope="module")
def from_dicom(lidc_series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dicom")
    diagnose(lidc_series, out)
    return out


def test_a_real_nodule_on_thick_slices_comes_first_and_is_measured(shared_data: Path, tmp_path: Path) -> None:
    diagnose(shared_data / "ct" / "lung1.mha", tmp_path)
    first = Report.model_validate_json((tmp_path / "report.json").read_text(encoding="utf-8")).findings[0]
    mask, geometry = read_mask(shared_data / "ct" / "lung1_nodule.nii.gz")
    assert math.dist(first.center_lps_mm, geometry.to_xyz(np.argwhere(mask).mean(axis=0))) < 13.75 / 2
    assert first.diameter_mm == pytest.approx(13.75, abs=3)


def test_a_real_nodule_is_outlined(shared_data: Path) -> None:
    """On the grid of the scan, in a box of 20 mm around the true mask: nothing else is nodule there."""
    mask, grid = read_mask(shared_data / "ct" / "lung1_nodule.nii.gz")
    prepared, cpu = prepare(read_ct(shared_data / "ct" / "lung1.mha")), torch.device("cpu")
    model = ready(load_model(bundled("segmentation"))[0], cpu)
    tiles = plan_tiles(prepared.lung)
    probability = segment(model, prepared.ct.hu, tiles, device=cpu, advance=lambda _: None)
    true = np.argwhere(mask)
    reach = np.ceil(20 / grid.spacing_irc).astype(int)
    box = tuple(map(slice, np.maximum(true.min(0) - reach, 0), true.max(0) + reach + 1))
    voxels = np.argwhere(np.ones(mask[box].shape, bool)) + [axis.start for axis in box]
    nearest = np.rint(prepared.ct.geometry.to_irc(grid.to_xyz(voxels))).astype(int)
    inside = ((nearest >= 0) & (nearest < probability.shape)).all(axis=1)
    said = np.zeros(len(voxels), bool)
    said[inside] = probability[tuple(nearest[inside].T)] >= DEFAULT_PROPOSAL.mask_threshold
    assert agreement(said.reshape(mask[box].shape), mask[box], grid.spacing_irc).dice >= 0.6


def test_the_nodule_of_a_real_luna16_scan_comes_first(from_dicom: Path, shared_data: Path) -> None:
    listed = read_nodules(shared_data / "luna16" / "annotations.csv")
    (truth,) = [nodule for nodule in listed if nodule.series_uid == LIDC_0001]
    first = read_detections(from_dicom / "detections.csv")[0]
    assert first.series_uid == LIDC_0001
    assert math.dist(first.center_xyz, truth.center_xyz) < 6


def test_the_same_scan_as_metaimage_has_the_same_detections(
    from_dicom: Path, lidc_series: Path, tmp_path: Path
) -> None:
    scan = tmp_path / f"{LIDC_0001}.mhd"
    write_ct(scan, read_ct(lidc_series))
    as_mhd = diagnose(scan, tmp_path / "out")
    as_dicom = read_detections(from_dicom / "detections.csv")
    assert len(as_mhd) == len(as_dicom) > 0
    for one, other in zip(as_mhd, as_dicom, strict=True):
        assert one.series_uid == other.series_uid
        assert math.dist(one.center_xyz, other.center_xyz) < 0.01
        assert one.probability == pytest.approx(other.probability, abs=1e-3)


def test_the_report_reads_back_and_names_its_models(from_dicom: Path) -> None:
    report = Report.model_validate_json((from_dicom / "report.json").read_text(encoding="utf-8"))
    builders = {model.stage: model.builder for model in report.models}
    assert builders["segmentation"] == "segmentation_unet"
    assert builders["classifier"] == "nodule_classifier"
    assert report.findings[0].rank == 1
    assert report.findings[0].diameter_mm == pytest.approx(23.35, abs=6)


def test_the_bundled_networks_were_not_trained_on_the_test_third() -> None:
    for name in ("segmentation", "nodule", "malignancy"):
        card = load_card(bundled(name))
        assert not {7, 8, 9} & {*card.config["data"]["train_folds"], *card.config["data"]["validation_folds"]}
        assert not {"LIDC-IDRI-0001", LIDC_0001, "lung1"} & {*card.split["train"], *card.split["validation"]}
        assert not [h for h in card.config["data"]["hosts"] if "lidc" in h or "lung1" in h]


def test_the_bundled_weights_are_small() -> None:
    assert sum(p.stat().st_size for p in WEIGHTS.glob("*.safetensors")) < 15e6


def test_the_demo_finds_what_it_hid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["demo", "--output", str(tmp_path / "demo")])
    assert done.value.code == 0
    said = capsys.readouterr().out
    last = next(line for line in said.splitlines() if line.startswith("found "))
    found, false = int(last.split()[1]), int(last.split()[-1])
    assert found >= 5
    assert false <= 2
    assert len(read_nodules(tmp_path / "demo" / "phantom" / "annotations.csv")) == 6


# Linux counts for a process what its parent held when it began, here that of all tests: one that holds little
# starts it. Prints its exit code and its highest resident memory in KB.
MEASURED = (
    "import os, subprocess, sys\n"
    "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    "_, status, usage = os.wait4(process.pid, 0)\n"
    "process.returncode = os.waitstatus_to_exitcode(status)\n"
    "print(process.returncode, usage.ru_maxrss)"
)


def test_a_diagnosis_takes_less_than_30_s_and_3_gb(shared_data: Path, tmp_path: Path) -> None:
    scan = str(shared_data / "ct" / "lung1.mha")
    command = [sys.executable, "-m", "p2ch_luna", "diagnose", scan, "--output", str(tmp_path)]
    start = time.monotonic()
    measured = [sys.executable, "-c", MEASURED, *command]
    said = subprocess.run(measured, capture_output=True, text=True, check=True).stdout
    exit_code, peak_kb = map(int, said.split())
    assert exit_code == 0
    assert time.monotonic() - start < 30
    assert peak_kb < 3e6


def test_implanted_nodules_of_unseen_patients_in_unseen_chests_are_found(
    shared_data: Path, lidc_ct: CtVolume
) -> None:
    pool = implantable_nodules(shared_data / "lidc", [7, 8, 9], 6.0, 30.0)
    own = {nodule.series_uid: nodule for nodule in read_nodules(HOSTS_EXCLUDED)}
    detector = NoduleDetector.load()
    truth, marks = [], []
    for ct in (lidc_ct, read_ct(shared_data / "ct" / "lung1.mha")):
        done, _, nodules = implant_at_random(ct, pool, 20, seed=1, known=[own[ct.series_uid]])
        truth += nodules
        marks += [ScoredPoint(d.series_uid, d.center_xyz, d.probability) for d in detector(done).detections]
    scans = list(dict.fromkeys(nodule.series_uid for nodule in truth))
    outcome = score_detections(truth, [own[uid] for uid in scans], scans, marks)
    assert froc(outcome).at(4.0) >= 0.8
