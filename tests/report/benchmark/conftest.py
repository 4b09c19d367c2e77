"""A chest of two lungs, crops of balls to set in, and a detector that sees whatever is brighter than body."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from p2ch_luna.cli import main
from p2ch_luna.findings import Detection
from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.inference import Diagnosis, NoduleDetector
from p2ch_luna.inference.propose import DEFAULT_PROPOSAL, ProposalSettings
from p2ch_luna.io import write_ct, write_mask
from p2ch_luna.io.lidc import COLUMNS
from p2ch_luna.models.checkpoint import ModelCard

BALL_HU = 100
BALLS = ((6.0, "P1"), (8.0, "P1"), (12.0, "P2"))  # diameter in mm, patient


class BrightDetector:
    """Marks every ball, the larger the surer; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.models: dict[str, ModelCard] = {}
        self.proposal: ProposalSettings = DEFAULT_PROPOSAL

    def two_stages(self) -> BrightDetector:
        return self

    def __call__(self, ct: CtVolume) -> Diagnosis:
        self.calls += 1
        labels, count = ndimage.label(ct.hu > BALL_HU - 50)
        voxel_mm3 = float(np.prod(ct.geometry.spacing_xyz))
        marks = []
        for label in range(1, count + 1):
            inside = np.argwhere(labels == label)
            x, y, z = ct.geometry.to_xyz(inside.mean(axis=0)).tolist()
            volume_mm3 = len(inside) * voxel_mm3
            score = volume_mm3 / (volume_mm3 + 100)
            marks.append(Detection(ct.series_uid, (x, y, z), score, 5.0, volume_mm3, 0.9, 0.9, 0.1))
        marks.sort(key=lambda mark: -mark.probability)
        return Diagnosis(ct.series_uid, marks, [], {"looking": 0.5}, self.proposal, self.models)


@pytest.fixture
def detector() -> BrightDetector:
    return BrightDetector()


@pytest.fixture
def write_host(tmp_path: Path) -> Callable[..., Path]:
    """Writes a body of water in air with two lungs of -850 HU; the file's name is its series uid."""

    def call(name: str = "host", lung_hu: int = -850) -> Path:
        geometry = ImageGeometry.axial((1.25, 1.25, 2.0), (-75.0, -56.0, -4.0))
        shape = (38, 90, 120)
        x, y, z = np.moveaxis(geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
        hu = np.full(shape, AIR_HU, np.int16)
        hu[(x / 64) ** 2 + (y / 46) ** 2 < 1] = 0
        for side in (-1, 1):
            hu[((x - side * 28) / 21) ** 2 + (y / 30) ** 2 + ((z - 34) / 29) ** 2 < 1] = lung_hu
        path = tmp_path / f"{name}.mha"
        write_ct(path, CtVolume(name, hu, geometry))
        return path

    return call


@pytest.fixture
def lidc(tmp_path: Path) -> Path:
    """A folder of LIDC nodules: balls of 6, 8 and 12 mm and 100 HU in lung, of two patients."""
    folder = tmp_path / "lidc"
    geometry = ImageGeometry.axial((0.5, 0.5, 1.0), (-10.0, -10.0, -10.0))
    shape = (21, 41, 41)
    place_xyz = geometry.to_xyz(np.moveaxis(np.indices(shape), 0, -1))
    rows = [",".join(COLUMNS)]
    for diameter, patient in BALLS:
        name = f"{patient}_{diameter:g}"
        mask = (place_xyz**2).sum(axis=-1) <= (diameter / 2) ** 2
        hu = np.where(mask, BALL_HU, -850).astype(np.int16)
        write_ct(folder / "voi" / f"{name}.nii.gz", CtVolume(name, hu, geometry))
        write_mask(folder / "voi" / f"{name}_mask.nii.gz", mask, geometry)
        rows.append(f"{name},{patient},1.2.{len(rows)},0,0,0,{diameter},4")
    (folder / "nodules.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_host: Callable[..., Path],
    lidc: Path,
    tmp_path: Path,
    detector: BrightDetector,
) -> Callable[..., Callable[..., tuple[object, str, str]]]:
    """A command on a host, that runs with further arguments: exit code, stdout, stderr.

    load: stands for `NoduleDetector.load`.
    """

    def of(
        name: str, uid: str = "host", copies: int = 1, load: Callable[..., object] = lambda *_: detector
    ) -> Callable[..., tuple[object, str, str]]:
        monkeypatch.setattr(NoduleDetector, "load", load)
        host = write_host(uid)
        fixed = [
            "--nodules",
            lidc,
            "--folds",
            "0-9",
            "--copies",
            copies,
            "--count",
            3,
            "-o",
            tmp_path / "out",
        ]

        def run(*args: object) -> tuple[object, str, str]:
            with pytest.raises(SystemExit) as end:
                main(list(map(str, [name, host, *fixed, *args])))
            captured = capsys.readouterr()
            return end.value.code, captured.out, captured.err

        return run

    return of
