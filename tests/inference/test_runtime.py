"""Networks through other libraries: the same answers as torch, and what they refuse."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.datasets.phantom import Phantom
from p2ch_luna.errors import LunaError
from p2ch_luna.export.parity import comparable
from p2ch_luna.findings import Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.fast import fast_inference
from p2ch_luna.inference.runtime import OTHERS, Runtime, check_runtime, on_runtime
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.io import read_ct
from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.models.classifier import NoduleClassifier
from p2ch_luna.models.precision import autocast
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.report.bench.runtimes import crops, phantom

ROOT = Path(__file__).parents[2]
CROPS = {"segmentation": (1, 1, 96, 112, 128), "nodule": (8, 1, 48, 48, 48), "malignancy": (8, 1, 32, 32, 32)}
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
def chest() -> Phantom:
    return phantom()


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return varied(SegmentationUNet((8, 16)))


@pytest.mark.parametrize("shape", [(1, 1, 32, 48, 16), (2, 1, 16, 16, 64)])
@pytest.mark.parametrize(("runtime", "limit"), [("openvino", 0.01), ("onnxruntime", 1e-3)])
def test_one_conversion_answers_as_torch_for_every_size(
    unet: nn.Module, runtime: Runtime, limit: float, shape: tuple[int, ...]
) -> None:
    with torch.inference_mode():
        wanted = unet(hu(*shape)).sigmoid()
        found = on_runtime(unet, CPU, runtime)(hu(*shape)).sigmoid()
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, atol=limit, rtol=0)


def test_a_runtime_that_nobody_knows_is_told() -> None:
    with pytest.raises(LunaError, match=r"^runtime 'tensorrt': wanted torch, openvino or onnxruntime$"):
        NoduleDetector.load(runtime="tensorrt")  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", OTHERS)
def test_only_the_answers_that_are_wanted_are_given(runtime: Runtime) -> None:
    model = varied(NoduleClassifier((8, 16), diameter_head=True))
    found = on_runtime(model, CPU, runtime, answers=2)(hu(3, 1, 16, 16, 16))
    assert [tuple(answer.shape) for answer in found] == [(3,), (3,)]


@pytest.mark.parametrize("runtime", OTHERS)
def test_what_is_measured_of_an_outline_is_not_rounded(runtime: Runtime) -> None:
    model = varied(NoduleClassifier((8, 16), outline=True))
    with torch.inference_mode():
        wanted = model(hu(2, 1, 32, 32, 32)).malignancy_logit
        found = on_runtime(model, CPU, runtime, answers=2)(hu(2, 1, 32, 32, 32))[1]
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


@pytest.fixture
def bfloat16() -> None:
    """Skip where networks are computed in float32: it would be compared with itself."""
    with autocast(CPU):
        if not torch.is_autocast_enabled("cpu"):
            pytest.skip("this CPU is not fast in bfloat16")


@pytest.mark.slow
@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize(("name", "shape"), CROPS.items())
def test_bfloat16_moves_no_probability_of_a_phantom_by_more_than_two_in_a_hundred(
    chest: Phantom, name: str, shape: tuple[int, ...], runtime: Runtime
) -> None:
    exact, _ = load_model(bundled(name))
    around = crops(chest, shape)
    with torch.inference_mode():
        wanted = comparable(exact(around))
    rounded = on_runtime(load_model(bundled(name))[0], CPU, runtime)
    with fast_inference(CPU):
        found = comparable(rounded(around))
    assert max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)) < 0.02


def test_torch_computes_with_the_network_itself(unet: nn.Module) -> None:
    assert on_runtime(unet, CPU, "torch") is unet


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_network_without_numbers_is_told_of(runtime: Runtime) -> None:
    damaged = SegmentationUNet((8, 16))
    nn.init.constant_(damaged.head.weight, torch.nan)
    lung = np.ones((16, 16, 16), bool)
    with pytest.raises(LunaError, match="segmentation network answers NaN"):
        segment(
            on_runtime(damaged, CPU, runtime),
            np.full(lung.shape, -800, np.int16),
            plan_tiles(lung),
            device=CPU,
            advance=lambda _: None,
        )


@pytest.mark.parametrize("runtime", OTHERS)
def test_others_are_for_the_cpu(runtime: Runtime) -> None:
    with pytest.raises(LunaError, match=f"runtime '{runtime}' on cuda"):
        check_runtime(runtime, torch.device("cuda"))


@pytest.mark.parametrize(
    ("runtime", "package"), [(r, p) for r, other in OTHERS.items() for p in other.packages]
)
def test_the_extra_is_named_where_it_is_missing(
    runtime: Runtime, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LunaError, match=rf'{package} is not installed.*pip install "p2ch-luna\[{runtime}\]"'):
        NoduleDetector.load(runtime=runtime)


def test_there_is_an_extra_of_each_name_with_its_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for runtime, other in OTHERS.items():
        assert tuple(wanted.partition(">=")[0] for wanted in extras[runtime]) == other.packages


def worst(ct: CtVolume, runtime: Runtime) -> tuple[float, float]:
    """How far the findings through torch and another runtime are apart at most, in mm and in probability."""
    by_torch, by_other = (NoduleDetector.load(runtime=one)(ct).detections for one in ("torch", runtime))
    pairs = [
        (detection, nearest(those, detection))
        for these, those in ((by_torch, by_other), (by_other, by_torch))
        for detection in these
        if detection.probability > 0.02
    ]
    apart_mm = [np.linalg.norm(np.subtract(one.center_xyz, other.center_xyz)) for one, other in pairs]
    return float(max(apart_mm)), max(abs(one.probability - other.probability) for one, other in pairs)


def nearest(detections: list[Detection], wanted: Detection) -> Detection:
    return min(detections, key=lambda one: np.linalg.norm(np.subtract(one.center_xyz, wanted.center_xyz)))


@pytest.mark.parametrize("runtime", OTHERS)
def test_the_bundled_networks_find_the_same_in_a_small_chest(scan: CtVolume, runtime: Runtime) -> None:
    apart_mm, by_probability = worst(scan, runtime)
    assert apart_mm < 0.5
    assert by_probability < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("runtime", OTHERS)
def test_the_bundled_networks_find_the_same_in_a_phantom(chest: Phantom, runtime: Runtime) -> None:
    apart_mm, by_probability = worst(chest.ct, runtime)
    assert apart_mm < 0.5
    assert by_probability < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("runtime", OTHERS)
def test_the_bundled_networks_find_the_same_in_a_real_chest(shared_data: Path, runtime: Runtime) -> None:
    apart_mm, by_probability = worst(read_ct(shared_data / "ct" / "lung1.mha"), runtime)
    assert apart_mm < 0.5
    assert by_probability < 0.01


def test_a_signal_is_heard_after_networks_have_gone_in_the_order_they_came() -> None:
    """In a process of its own, for a stack for signals that is freed too early ends it."""
    code = """
import signal, torch
from p2ch_luna.inference.runtime_openvino import through_openvino
from p2ch_luna.models.unet import SegmentationUNet

networks = [through_openvino(SegmentationUNet((8,))) for _ in range(3)]
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
