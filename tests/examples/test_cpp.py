"""luna_propose, the C++ program: built here, it finds what Python finds, through each of its libraries."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.export.formats import FORMATS
from p2ch_luna.export.run import export_model
from p2ch_luna.export.schema import FormatName
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.conversion import Answers
from p2ch_luna.inference.propose import propose
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.inference.unreported import import_unreported
from p2ch_luna.io import read_ct, read_mask, write_ct, write_mask
from p2ch_luna.models.checkpoint import bundled, load_model
from p2ch_luna.report.bench.tiles import InFloat32

openvino = import_unreported("openvino")
pytestmark = [pytest.mark.cpp, pytest.mark.slow]

SOURCES = Path(__file__).parents[2] / "examples" / "cpp"
BACKENDS: dict[str, tuple[FormatName, str]] = {  # by LUNA_BACKEND: the format, and the suffix of its file
    "openvino": ("openvino", ".xml"),
    "torch": ("torchscript", ".ts.pt"),
}
COLUMNS = {  # of the table, and how far apart C++ and Python may be
    "coordX": 0.1,
    "coordY": 0.1,
    "coordZ": 0.1,
    "probability": 1e-3,
    "volume_mm3": 1.0,  # a voxel
    "diameter_mm": 0.1,
}
STRAIGHT = "1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0"
HEAPS = 60  # a few more candidates than are kept
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


class Contrast(nn.Module):
    """How much denser a voxel is than all that the tile sees, as a logit: each tile has other answers."""

    multiple = 16

    def forward(self, hu: Tensor) -> Tensor:
        return (hu - hu.mean()) / 50 - 4


class Narrow(nn.Module):
    """Fails on any other size than that of its export."""

    multiple = 8

    def forward(self, hu: Tensor) -> Tensor:
        return hu.reshape(1, 1, 16, 16, 16) * 2


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def program(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, against the libraries of the wheels, with one of them alone."""
    folder = tmp_path_factory.mktemp(f"build-{backend}")
    found = f"{Path(openvino.__file__).parent / 'cmake'};{torch.utils.cmake_prefix_path}"
    where = ["-S", SOURCES, "-B", folder, "-G", "Ninja"]
    how = [f"-DLUNA_BACKEND={backend}", f"-DCMAKE_PREFIX_PATH={found}"]
    for words in (["cmake", *where, *how], ["cmake", "--build", folder]):
        done = run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "luna_propose"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled segmentation, `Contrast` and `Narrow`, in the formats of both."""
    folder = tmp_path_factory.mktemp("exported")
    formats = [one for one, _ in BACKENDS.values()]
    export_model(bundled("segmentation"), "segmentation", formats, folder)
    for one, suffix in BACKENDS.values():
        FORMATS[one].write(Answers(Contrast()), folder / f"contrast{suffix}")
        FORMATS[one].write(Answers(Narrow()), folder / f"narrow{suffix}")
    return folder


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tilted phantom, prepared by the script."""
    folder = tmp_path_factory.mktemp("chest")
    phantom = make_phantom(np.random.default_rng(0), direction=TILT, n_nodules=8)
    write_ct(folder / "scan.mha", phantom.ct)
    done = run(sys.executable, SOURCES / "write_raw.py", folder / "scan.mha", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def jumble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with more than a tile holds: HU that rise along each axis, and boxes in heaps.

    They touch by corners and faintly, lie at borders of the volume, and in, at and far from striped lungs.
    """
    folder = tmp_path_factory.mktemp("jumble")
    rng = np.random.default_rng(0)
    shape = (171, 222, 263)
    hu = np.indices(shape).sum(0) * 0.2 - 700 + rng.integers(0, 5, shape)
    heaps = rng.integers(0, shape, (HEAPS, 3)).repeat(10, axis=0)
    for low in np.clip(heaps + rng.integers(-7, 8, heaps.shape), 0, np.array(shape) - 1):
        box = tuple(map(slice, low, low + rng.integers(1, 7, 3)))
        hu[box] += rng.integers(0, rng.integers(100, 350), hu[box].shape)
    lung = np.zeros(shape, bool)
    lung[13:150, 40:190, 21:103] = lung[30:171, 33:222, 150:240] = True
    lung[:, :, np.arange(shape[2]) // 12 % 2 == 0] = False  # stripes, for more edges
    geometry = ImageGeometry(np.array([-90.0, -80.0, -200.0]), np.ones(3), TILT)
    return written(folder, hu, lung, geometry)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a small CT without lungs."""
    shape = (20, 24, 28)
    return written(tmp_path, np.zeros(shape), np.zeros(shape, bool), ImageGeometry.axial())


def written(folder: Path, hu: NDArray[np.float64], lung: NDArray[np.bool_], geometry: ImageGeometry) -> Path:
    write_ct(folder / "ct.mhd", CtVolume("1.2.3", hu.astype(np.int16), geometry))
    write_mask(folder / "lung.mhd", lung, geometry)
    return folder


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def run_program(program: Path, model: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(program, model, folder / "ct.mhd", folder / "lung.mhd", folder / "found.csv", "--threads", "1")


def found_in_cpp(program: Path, model: Path, folder: Path) -> NDArray[np.float64]:
    """(N, 6) centre in LPS mm, probability, mm3 and diameter in mm of each candidate, best first."""
    done = run_program(program, model, folder)
    assert done.returncode == 0, done.stderr
    print(f"{model.name} in C++: {done.stdout.strip()}")
    with (folder / "found.csv").open(encoding="utf-8", newline="") as file:
        rows = [[float(row[name]) for name in COLUMNS] for row in csv.DictReader(file)]
    return np.array(rows).reshape(-1, len(COLUMNS))


def found_in_python(network: nn.Module, folder: Path) -> NDArray[np.float64]:
    """The same, in float32."""
    ct = read_ct(folder / "ct.mhd")
    lung, _ = read_mask(folder / "lung.mhd")
    start = time.perf_counter()
    probability = segment(
        InFloat32(network), ct.hu, plan_tiles(lung), device=torch.device("cpu"), advance=lambda _: None
    )
    print(f"{type(network).__name__} in Python: segmentation {time.perf_counter() - start:.2f} s")
    kept = [one.candidate for one in propose(probability, lung, ct.geometry, "1.2.3").kept]
    return np.array([(*one.center_xyz, one.probability, one.volume_mm3, one.diameter_mm) for one in kept])


@pytest.fixture(scope="module")
def of_chest(chest: Path) -> NDArray[np.float64]:
    return found_in_python(load_model(bundled("segmentation"))[0], chest)


@pytest.fixture(scope="module")
def of_jumble(jumble: Path) -> NDArray[np.float64]:
    return found_in_python(Contrast(), jumble)


def check_same(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
    """As many candidates, in the same order, alike."""
    assert len(found) == len(wanted) > 10
    for column, (name, tolerance) in enumerate(COLUMNS.items()):
        np.testing.assert_allclose(found[:, column], wanted[:, column], rtol=0, atol=tolerance, err_msg=name)


def test_it_finds_in_a_chest_what_python_finds(
    backend: str, program: Path, exported: Path, chest: Path, of_chest: NDArray[np.float64]
) -> None:
    check_same(found_in_cpp(program, exported / f"segmentation{suffix(backend)}", chest), of_chest)


def test_it_finds_in_a_jumble_what_python_finds(
    backend: str, program: Path, exported: Path, jumble: Path, of_jumble: NDArray[np.float64]
) -> None:
    check_same(found_in_cpp(program, exported / f"contrast{suffix(backend)}", jumble), of_jumble)


def test_it_needs_neither_python_nor_the_other_library(backend: str, program: Path) -> None:
    linked = run("ldd", program).stdout
    others = ["libpython", "libtorch_python", *(f"lib{name}." for name in BACKENDS if name != backend)]
    assert f"lib{backend}." in linked
    assert not [name for name in others if name in linked]


def test_without_lungs_there_is_no_candidate(
    backend: str, program: Path, exported: Path, small: Path
) -> None:
    assert not len(found_in_cpp(program, exported / f"contrast{suffix(backend)}", small))


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("ct.mhd", "1.0 1.0 1.0", "1.0 0.7 1.0", "ct.mhd: ElementSpacing has 0.700000 mm; wanted 1 mm"),
        ("ct.mhd", "28 24 20", "28 24 21", "ct.raw: 26880 bytes; wanted 28224"),
        ("ct.mhd", "28 24 20", "28 24", "ct.mhd: DimSize is '28 24'; wanted 3 numbers"),
        ("ct.mhd", "MET_SHORT", "MET_FLOAT", "ct.mhd: ElementType is MET_FLOAT; wanted MET_SHORT"),
        ("ct.mhd", "NDims", "Dims", "ct.mhd: no NDims; wanted one"),
        ("ct.mhd", "Matrix = 1.0", "Matrix = 2.0", "ct.mhd: TransformMatrix is not orthonormal"),
        ("lung.mhd", "28 24 20", "24 28 20", "mask is 20 x 28 x 24 voxels; wanted 20 x 24 x 28, as the CT"),
        ("lung.mhd", "Offset = 0.0", "Offset = 5.0", "the lung mask lies elsewhere than the CT"),
        ("lung.mhd", STRAIGHT, "1 0 0 0 0.8 -0.6 0 0.6 0.8", "the lung mask lies elsewhere than the CT"),
        ("lung.mhd", STRAIGHT, "1 0 0 0 -1 0 0 0 1", "lung.mhd: TransformMatrix does not run left, back"),
        ("ct.mhd", STRAIGHT, "0 1 0 1 0 0 0 0 1", "ct.mhd: TransformMatrix does not run left, back and up"),
    ],
)
def test_it_says_in_a_line_what_is_wrong_with_a_volume(
    backend: str, program: Path, exported: Path, small: Path, file: str, old: str, new: str, complaint: str
) -> None:
    text = (small / file).read_text("utf-8")
    assert old in text
    (small / file).write_text(text.replace(old, new, 1), "utf-8")
    check_refused(run_program(program, exported / f"contrast{suffix(backend)}", small), complaint)


def test_it_says_which_model_cannot_be_loaded(backend: str, program: Path, small: Path) -> None:
    model = small / f"net{suffix(backend)}"
    model.write_text("no network", "utf-8")
    check_refused(run_program(program, model, small), f"{model.name}: cannot be loaded; wanted a network")


def test_what_cannot_be_written_is_not_left_in_part(
    backend: str, program: Path, exported: Path, small: Path
) -> None:
    (small / "found.csv").mkdir()
    done = run_program(program, exported / f"contrast{suffix(backend)}", small)
    check_refused(done, "found.csv: cannot be written")
    assert not list(small.glob("*.part"))


def test_a_folder_that_is_not_there_is_told_before_the_network_is_loaded(
    backend: str, program: Path, small: Path
) -> None:
    missing, model = small / "none" / "found.csv", small / f"net{suffix(backend)}"
    done = run(program, model, small / "ct.mhd", small / "lung.mhd", missing)
    check_refused(done, f"{missing}: cannot be written")


def test_a_network_that_fails_is_told_in_a_line(
    backend: str, program: Path, exported: Path, small: Path
) -> None:
    (small / "lung.raw").write_bytes(b"\1" * 20 * 24 * 28)
    done = run_program(program, exported / f"narrow{suffix(backend)}", small)
    check_refused(done, "luna_propose: the network fails: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(small.glob("*.part"))


def test_it_says_how_it_is_called(program: Path) -> None:
    check_refused(run(program, "one"), "usage: luna_propose MODEL CT.mhd LUNG.mhd CANDIDATES.csv")


def check_refused(done: subprocess.CompletedProcess[str], complaint: str) -> None:
    assert done.returncode == 1
    assert complaint in done.stderr.splitlines()[-1]  # OpenVINO may say something before


def suffix(backend: str) -> str:
    return BACKENDS[backend][1]


def test_the_script_says_which_scan_cannot_be_read(tmp_path: Path) -> None:
    check_refused(run(sys.executable, SOURCES / "write_raw.py", tmp_path / "none.mha", tmp_path), "not there")
