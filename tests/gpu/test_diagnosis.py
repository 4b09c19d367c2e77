"""Diagnosis on a GPU: what the CPU finds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.findings import Detection
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.detector import HEADS
from p2ch_luna.io import write_ct
from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.report.bench.runtimes import crops
from support.devices import CPU, CUDA, there

NODULES = 4


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    return there(request.param)


@pytest.fixture(scope="module")
def chest() -> Phantom:
    rng = np.random.default_rng(0)
    return make_phantom(rng, shape_irc=(100, 160, 160), spacing_xyz=(2.0, 2.0, 2.5), n_nodules=NODULES)


def nearest(to: Detection, among: list[Detection]) -> Detection:
    return min(among, key=lambda one: float(np.linalg.norm(np.subtract(one.center_xyz, to.center_xyz))))


@pytest.mark.parametrize(("network", "side"), [("nodule", 48), ("malignancy", 32)])
def test_a_network_in_float32_answers_as_on_the_cpu(
    device: torch.device, network: str, side: int, chest: Phantom
) -> None:
    hu = crops(chest, (4, 1, side, side, side))
    with torch.inference_mode():
        found, wanted = (
            torch.stack(load_model(bundled(network), where)[0](hu.to(where))[:HEADS]).sigmoid().cpu()
            for where in (device, CPU)
        )
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)  # a GPU may convolve float32 in TF32


def test_the_detections_are_those_of_the_cpu(device: torch.device, chest: Phantom) -> None:
    found, wanted = (NoduleDetector.load(device=where)(chest.ct).detections for where in (device, CPU))
    probable = [detection for detection in wanted if detection.probability > 0.1]
    assert len(probable) >= NODULES
    for detection in probable:
        same = nearest(detection, found)
        assert same.center_xyz == pytest.approx(detection.center_xyz, abs=0.5)
        assert same.diameter_mm == pytest.approx(detection.diameter_mm, abs=0.5)
        assert same.probability == pytest.approx(detection.probability, abs=0.02)


def test_the_command_diagnoses_there(device: torch.device, chest: Phantom, tmp_path: Path) -> None:
    write_ct(tmp_path / "chest.mha", chest.ct)
    with pytest.raises(SystemExit) as done:
        main(["diagnose", str(tmp_path / "chest.mha"), "-o", str(tmp_path / "out"), "--device", device.type])
    assert not done.value.code
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert len(report["findings"]) == NODULES
