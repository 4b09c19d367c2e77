"""How fast each runtime computes each network on this machine's CPU, and how far its answers are apart."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import filterfalse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from p2ch_luna.datasets.phantom import Phantom, make_phantom
from p2ch_luna.export.formats import FORMATS, Loaded, has_torch_export, torch_export
from p2ch_luna.export.parity import comparable
from p2ch_luna.export.schema import FormatName
from p2ch_luna.geometry import crop_around
from p2ch_luna.inference.classify import BATCH, CROP_IRC
from p2ch_luna.inference.conversion import Answers
from p2ch_luna.inference.detector import HEADS
from p2ch_luna.inference.fast import fast_inference
from p2ch_luna.inference.runtime import OTHERS, Runtime, on_runtime
from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.report.bench.tiles import InFloat32

CHEST, NODULES = (160, 240, 330), 8  # slices, rows and columns of 1 mm
BESIDE_IRC = (0, 0, 12)  # voxels from a nodule, where a classifier is not sure
CPU = torch.device("cpu")
EAGER = "torch, float32"  # what the others are compared with
# As `luna diagnose` has them: a tile of a chest, and a full pass of candidates of each classifier.
SHAPES: Mapping[str, tuple[int, ...]] = {
    "segmentation": (1, 1, 160, 192, 160),
    "nodule": (BATCH, 1, *CROP_IRC),
    "malignancy": (BATCH, 1, 32, 32, 32),
}
CHOICES: Mapping[str, Runtime] = {  # of --runtime, by the names of their rows
    "torch, as diagnose runs it": "torch",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}


@dataclass(frozen=True)
class Timing:
    """One network through one runtime."""

    network: str
    shape: tuple[int, ...]  # of the input
    runtime: str
    milliseconds: float  # of one pass, the median
    times_eager: float  # how many times as fast as `EAGER`, the median of the turns
    largest_difference: float  # in probability, from `EAGER`


def measure(
    folder: Path,
    stage: Callable[[str], None],
    runs: int = 5,
    *,
    shapes: Mapping[str, Sequence[int]] = SHAPES,
    compiled: bool = False,
) -> Iterator[Timing]:
    """Every network on every runtime that is installed; the runtimes take turns. Files go into `folder`.

    shapes: of the input of each bundled network that is measured.    compiled: also as AOTInductor compiles
    it, which takes a minute a network and a C++ compiler.
    """
    for runtime in filterfalse(_is_installed, OTHERS):
        stage(f'{runtime} is not installed and left out: pip install "p2ch-luna[{runtime}]"')
    stage("making a phantom")
    chest = phantom()
    for network, shape in shapes.items():
        if not bundled(network).is_file():
            continue  # a network of malignancy need not be bundled
        stage(f"{network}: converting")
        ways = _ways(network, folder, compiled=compiled)
        hu = crops(chest, shape)
        stage(f"{network}: {runs} turns of {len(ways)} runtimes")
        yield from _timings(network, ways, hu, runs)


def phantom() -> Phantom:
    """The middle of a chest, always the same."""
    rng = np.random.default_rng(0)
    return make_phantom(rng, shape_irc=CHEST, spacing_xyz=(1, 1, 1), n_nodules=NODULES)


def crops(chest: Phantom, shape: Sequence[int]) -> Tensor:
    """(B, 1, D, H, W) HU round its nodules in turn, every second beside it; each turn by another voxel."""
    batch, _, *sides = shape
    found = [chest.ct.geometry.to_irc(nodule.center_xyz) for nodule in chest.nodules]
    turns = (divmod(k, len(found)) for k in range(batch))
    centers = [found[which] + turn + k % 2 * np.array(BESIDE_IRC) for k, (turn, which) in enumerate(turns)]
    cut = [crop_around(chest.ct.hu, center, sides) for center in centers]
    return torch.from_numpy(np.stack(cut).astype(np.float32))[:, None]


def fastest(timings: Sequence[Timing]) -> Runtime:
    """The choice of `--runtime` that takes the least for one pass of each network, of those measured."""
    totals = {
        choice: sum(one.milliseconds for one in timings if one.runtime == name)
        for name, choice in CHOICES.items()
        if any(one.runtime == name for one in timings)
    }
    return min(totals, key=totals.__getitem__)


def _timings(network: str, ways: Mapping[str, Loaded], hu: Tensor, runs: int) -> Iterator[Timing]:
    answers = {name: comparable(way(hu))[:HEADS] for name, way in ways.items()}  # this turn is not counted
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            way(hu)
            seconds[name].append(time.perf_counter() - start)
    for name in ways:
        gaps = [float((a - b).abs().max()) for a, b in zip(answers[name], answers[EAGER], strict=True)]
        ratio = float(np.median(np.divide(seconds[EAGER], seconds[name])))
        median = 1e3 * float(np.median(seconds[name]))
        yield Timing(network, tuple(hu.shape), name, median, ratio, max(gaps))


def _ways(network: str, folder: Path, *, compiled: bool) -> dict[str, Loaded]:
    """The bundled network of this name on each runtime; the first is `EAGER`."""
    heads = None if network == "segmentation" else HEADS

    def fresh() -> nn.Module:
        return load_model(bundled(network))[0]

    ways = {EAGER: _fast(InFloat32(on_runtime(fresh(), CPU, "torch")))}
    for name, runtime in CHOICES.items():
        if runtime == "torch" or _is_installed(runtime):
            ways[name] = _fast(on_runtime(fresh(), CPU, runtime, answers=heads))
    answers = Answers(fresh(), heads)
    forms: list[FormatName] = ["torchscript"]
    if has_torch_export():
        forms.append("torch-export")
    for form in forms:
        path = folder / f"{network}{FORMATS[form].suffixes[0]}"
        FORMATS[form].write(answers, path)
        ways[f"{form}, float32"] = _plain(FORMATS[form].load(path, answers.is_single))
    if compiled and has_torch_export():
        ways["AOTInductor, float32"] = _plain(_compiled(answers, folder / f"{network}-compiled.pt2"))
    return ways


def _is_installed(runtime: Runtime) -> bool:
    return all(map(find_spec, OTHERS[runtime].packages))


def _compiled(answers: Answers, path: Path) -> Loaded:
    """What torch compiles of the network, with a C++ compiler."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's own code
        torch._inductor.aoti_compile_and_package(torch_export(answers), package_path=str(path))
        loaded: Loaded = torch._inductor.aoti_load_package(str(path))
        return loaded


def _fast(model: nn.Module) -> Loaded:
    """As `luna diagnose` calls a network."""

    def call(hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        with fast_inference(CPU):
            return model(hu)  # type: ignore[no-any-return]

    return call


def _plain(loaded: Loaded) -> Loaded:
    """Without gradients, in float32."""

    def call(hu: Tensor) -> Tensor | tuple[Tensor, ...]:
        with torch.inference_mode():
            return loaded(hu)

    return call
