"""What several tests share."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.geometry import AIR_HU, CtVolume, ImageGeometry
from p2ch_luna.io import read_ct
from support.installed import build_wheel, install


@pytest.fixture
def ct() -> CtVolume:
    """Air with one soft-tissue voxel; tilted, anisotropic, three different sides."""
    hu = np.full((12, 16, 20), AIR_HU, dtype=np.float32)
    hu[5, 7, 9] = 40.0
    tilt = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    geometry = ImageGeometry(np.array([-90.0, -80.0, -200.0]), np.array([0.7, 0.8, 1.25]), tilt)
    return CtVolume("1.2.3", hu, geometry)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $LUNA_SHARED_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LUNA_SHARED_DATA", beside))
    if not (folder / "luna16" / "annotations.csv").is_file():
        pytest.fail(
            f"{folder}: the real data are not there; expected ct/, lidc/ and luna16/ (LUNA_SHARED_DATA)"
        )
    return folder


@pytest.fixture(scope="session")
def lidc_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LIDC-IDRI-0001, a complete LUNA16 scan, as its 133 DICOM files; not to be written to."""
    folder = tmp_path_factory.mktemp("lidc-idri-0001")
    with zipfile.ZipFile(shared_data / "ct" / "lidc-idri-0001.zip") as zipped:
        zipped.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def lidc_ct(lidc_series: Path) -> CtVolume:
    """LIDC-IDRI-0001, read once; its voxels cannot be changed."""
    ct = read_ct(lidc_series)
    ct.hu.setflags(write=False)
    return ct


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is given away."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of programs of an environment that has the wheel, without extras; made in a minute."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    yield install(wheel, environment)
    shutil.rmtree(environment)  # more than 1 GB, which pytest would keep
