"""A small series in three orientations with two findings, and plain readers of what is written about it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.io import write_series
from p2ch_luna.report.dicom.seg import write_seg
from p2ch_luna.report.dicom.sources import read_sources
from p2ch_luna.report.dicom.sr import write_sr
from p2ch_luna.report.schema import Finding, Report, Scan, Settings

SHAPE = (20, 31, 27)  # 837 pixels a slice: not a whole number of bytes
FLIPPED = np.diag([-1.0, 1.0, -1.0])  # columns run right, slices down
OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]]) @ FLIPPED
DIRECTIONS = {"upright": np.eye(3), "flipped": FLIPPED, "oblique": OBLIQUE}
TOOLS = "run scripts/install_test_tools.sh"

FINDING = Finding(
    id="F1",
    rank=1,
    center_lps_mm=(10.5, -20.25, 30.0),
    voxel_irc=(6.0, 7.0, 8.0),
    slice_index=6,
    slice_number=7,
    label=1,
    tracking_uid="2.25.101",
    side="right",
    third="upper",
    is_cut_off=False,
    pleura_mm=3.25,
    longest_mm=9.5,
    perpendicular_mm=7.25,
    mean_diameter_mm=8.375,
    longest_lps_mm=((6.5, -20.25, 30.0), (16.0, -20.25, 30.0)),
    perpendicular_lps_mm=((10.5, -23.25, 30.0), (10.5, -16.0, 30.0)),
    diameter_mm=8.2,
    volume_mm3=288.75,
    mean_hu=-12.5,
    texture="part-solid",
    solid_mm=5.125,
    lung_rads="4A",
    nodule_probability=0.97,
    segmentation_probability=0.9,
    classifier_probability=0.8,
    malignancy_probability=0.4,
    malignancy_by_diameter=0.3,
    images={},
)
SECOND = FINDING.model_copy(
    update={
        "id": "F2",
        "rank": 2,
        "label": 2,
        "tracking_uid": "2.25.102",
        "side": "left",
        "texture": "solid",
        "malignancy_probability": None,
    }
)


def report_of(*findings: Finding) -> Report:
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    scan = Scan(
        name="scan",
        format="dicom",
        series_uid="1.2.3",
        series=(),
        shape_irc=SHAPE,
        spacing_xyz_mm=(0.7, 0.8, 1.25),
        origin_xyz_mm=(-9.5, 20.0, -200.25),
        direction=axes,
    )
    settings = Settings(
        finding_threshold=0.8,
        operating_point=None,
        proposal_threshold=0.1,
        mask_threshold=0.5,
        outline_share=0.65,
        max_candidates=100,
    )
    return Report(
        scan=scan,
        is_searched=True,
        findings=findings,
        rejected=(),
        warnings=(),
        models=(),
        settings=settings,
        files=(),
        timings_s={},
    )


@dataclass(frozen=True, eq=False)
class Case:
    """A series, what was found in it, and the two objects about it."""

    ct: CtVolume
    files: tuple[Path, ...]
    labels: NDArray[np.uint8]
    report: Report
    seg: Path
    sr: Path

    @classmethod
    def written(
        cls, folder: Path, ct: CtVolume, files: tuple[Path, ...], labels: NDArray[np.uint8], report: Report
    ) -> Case:
        """Write SEG and SR about a series into a folder."""
        seg, sr = folder / "nodules.seg.dcm", folder / "nodules.sr.dcm"
        sources = read_sources(files)
        write_sr(sr, report, sources, write_seg(seg, report, labels, sources))
        return cls(ct, files, labels, report, seg, sr)


def labels_of_two() -> NDArray[np.uint8]:
    """Two that share slices and have no symmetry; the second also holds the very last voxel."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 5:9, 6:11] = 1
    labels[4, 5, 6] = 0
    labels[7:10, 20:22, 3:14] = 2
    labels[-1, -1, -1] = 2
    return labels


def write_case(folder: Path, direction: NDArray[np.float64], change: Callable[[Dataset], None]) -> Case:
    origin_xyz, spacing_xyz = np.array([-9.5, 20.0, -200.25]), np.array([0.7, 0.8, 1.25])
    hu = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    ct = CtVolume("1.2.3", hu, ImageGeometry(origin_xyz, spacing_xyz, direction))
    write_series(folder / "series", ct)
    files = tuple(sorted((folder / "series").iterdir()))
    with pydicom.config.disable_value_validation():
        for path in files:
            header = pydicom.dcmread(path)
            change(header)
            header.save_as(path)
    return Case.written(folder, ct, files, labels_of_two(), report_of(FINDING, SECOND))


def unchanged(header: Dataset) -> None:
    pass


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """By orientation."""
    return {
        name: write_case(tmp_path_factory.mktemp(name), direction, unchanged)
        for name, direction in DIRECTIONS.items()
    }


@pytest.fixture(scope="session")
def case(cases: dict[str, Case]) -> Case:
    """The oblique one."""
    return cases["oblique"]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[Dataset], None]], Case]:
    """The oblique one, with a change made to every header first."""
    return lambda change: write_case(tmp_path, OBLIQUE, change)


@pytest.fixture
def again(tmp_path: Path, case: Case) -> Callable[..., Case]:
    """SEG and SR of the oblique series once more, of other findings or labels."""

    def again(*findings: Finding, labels: NDArray[np.uint8] = case.labels) -> Case:
        return Case.written(tmp_path, case.ct, case.files, labels, report_of(*findings))

    return again


@pytest.fixture(scope="session")
def first() -> Finding:
    return FINDING


@pytest.fixture(scope="session")
def second() -> Finding:
    return SECOND


@pytest.fixture(scope="session")
def voxels() -> Callable[[Path, int, ImageGeometry], set[tuple[int, ...]]]:
    """(index, row, col) in a geometry of the voxels of a SEG's segment, from bits and functional groups."""

    def voxels(path: Path, number: int, geometry: ImageGeometry) -> set[tuple[int, ...]]:
        seg = pydicom.dcmread(path)
        bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
        shape = (int(seg.NumberOfFrames), seg.Rows, seg.Columns)
        frames = bits[: np.prod(shape)].reshape(shape)
        shared = seg.SharedFunctionalGroupsSequence[0]
        found: set[tuple[int, ...]] = set()
        for frame, own in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):

            def group(name: str, own: Dataset = own) -> Dataset:
                return (own if name in own else shared)[name][0]

            if group("SegmentIdentificationSequence").ReferencedSegmentNumber != number:
                continue
            rows, columns = np.nonzero(frame)
            between_rows, between_columns = group("PixelMeasuresSequence").PixelSpacing
            cosines = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, float)
            xyz = np.array(group("PlanePositionSequence").ImagePositionPatient, float)
            xyz = xyz + np.outer(columns * float(between_columns), cosines[:3])
            xyz = xyz + np.outer(rows * float(between_rows), cosines[3:])
            irc = geometry.to_irc(xyz)
            assert abs(irc - np.rint(irc)).max() < 1e-3
            found |= {tuple(voxel) for voxel in np.rint(irc).astype(int).tolist()}
        return found

    return voxels


@pytest.fixture(scope="session")
def items() -> Callable[..., list[Dataset]]:
    """All items of a report's tree with a concept's meaning, below an item or the whole document."""

    def items(above: Dataset, meaning: str) -> list[Dataset]:
        found = []
        for item in above.get("ContentSequence", []):
            if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeMeaning == meaning:
                found.append(item)
            found += items(item, meaning)
        return found

    return items


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """Runs a program and returns all that it says."""

    def tool(name: str, *arguments: object) -> str:
        beside_python = Path(sys.executable).parent / name
        program = str(beside_python) if beside_python.is_file() else shutil.which(name)
        if program is None:
            pytest.fail(f"{name} is not installed; {TOOLS}")
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    return tool
