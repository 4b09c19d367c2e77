"""Networks through OpenVINO: the same answers as torch, and what it refuses."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.runtime import OpenVinoNetwork, check_runtime, on_runtime
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.io import read_ct
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.unet import SegmentationUNet

CPU = torch.device("cpu")


def hu(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 300 - 700


def varied(model: nn.Module) -> nn.Module:
    """With a head that says something, and other statistics of its batch norms than at the start."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, value in model.state_dict().items():
            if "running" in name or "head" in name:
                value.copy_(torch.rand_like(value) + 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return varied(SegmentationUNet((8, 16)))


@pytest.mark.parametrize("shape", [(1, 1, 32, 48, 16), (2, 1, 16, 16, 64)])
def test_one_conversion_answers_as_torch_for_every_size(unet: nn.Module, shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        wanted = unet(hu(*shape)).sigmoid()
        found = OpenVinoNetwork(unet)(hu(*shape)).sigmoid()
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)


def test_only_the_answers_that_are_wanted_are_given() -> None:
    model = varied(NoduleClassifier((8, 16), diameter_head=True))
    found = OpenVinoNetwork(model, 2)(hu(3, 1, 16, 16, 16))
    assert [tuple(answer.shape) for answer in found] == [(3,), (3,)]


def test_what_is_measured_of_an_outline_is_not_rounded() -> None:
    model = varied(NoduleClassifier((8, 16), outline=True))
    with torch.inference_mode():
        wanted = model(hu(2, 1, 32, 32, 32)).malignancy_logit
        found = OpenVinoNetwork(model, 2)(hu(2, 1, 32, 32, 32))[1]
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


def test_torch_computes_with_the_network_itself(unet: nn.Module) -> None:
    assert on_runtime(unet, CPU, "torch") is unet


def test_a_network_without_numbers_is_told_of() -> None:
    damaged = SegmentationUNet((8, 16))
    nn.init.constant_(damaged.head.weight, torch.nan)
    lung = np.ones((16, 16, 16), bool)
    with pytest.raises(LunaError, match="segmentation network answers NaN"):
        segment(
            OpenVinoNetwork(damaged.eval()),
            np.full(lung.shape, -800, np.int16),
            plan_tiles(lung),
            device=CPU,
            advance=lambda _: None,
        )


def test_openvino_is_for_the_cpu() -> None:
    with pytest.raises(LunaError, match="runtime 'openvino' on cuda"):
        check_runtime("openvino", torch.device("cuda"))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LunaError, match=r'pip install "p2ch-luna\[openvino\]"'):
        NoduleDetector.load(runtime="openvino")


def worst(ct: CtVolume) -> tuple[float, float]:
    """How far the findings of both runtimes are apart at most, in mm and in probability."""
    by_torch, by_openvino = (
        NoduleDetector.load(runtime=runtime)(ct).detections for runtime in ("torch", "openvino")
    )
    pairs = [
        (detection, nearest(those, detection))
        for these, those in ((by_torch, by_openvino), (by_openvino, by_torch))
        for detection in these
        if detection.probability > 0.02
    ]
    apart_mm = [np.linalg.norm(np.subtract(one.center_xyz, other.center_xyz)) for one, other in pairs]
    return float(max(apart_mm)), max(abs(one.probability - other.probability) for one, other in pairs)


def nearest(detections: list[Detection], wanted: Detection) -> Detection:
    return min(detections, key=lambda one: np.linalg.norm(np.subtract(one.center_xyz, wanted.center_xyz)))


def test_the_bundled_networks_find_the_same_in_a_small_chest(scan: CtVolume) -> None:
    apart_mm, by_probability = worst(scan)
    assert apart_mm < 0.5
    assert by_probability < 0.01


@pytest.mark.slow
def test_the_bundled_networks_find_the_same_in_a_real_chest(shared_data: Path) -> None:
    apart_mm, by_probability = worst(read_ct(shared_data / "ct" / "lung1.mha"))
    assert apart_mm < 0.5
    assert by_probability < 0.01


def test_a_signal_is_heard_after_networks_have_gone_in_the_order_they_came() -> None:
    """In a process of its own, for a stack for signals that is freed too early ends it."""
    code = """
import signal, torch
from p2ch_luna.inference.runtime import OpenVinoNetwork

networks = [OpenVinoNetwork(torch.nn.Conv3d(1, 1, 3)) for _ in range(3)]
for network in networks:
    network(torch.zeros(1, 1, 8, 8, 8))
while networks:
    networks.pop(0)
del network
signal.signal(signal.SIGTERM, lambda number, _: print(number))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == signal.SIGTERM
