"""`luna phantom`: what it writes is read back as what was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from p2ch_luna.cli.phantom import phantom
from p2ch_luna.io import read_ct, read_mask, read_nodules

COARSE = ["--spacing", "5", "5", "6", "--nodules", "2"]


def run(output: Path, *args: str) -> None:
    CliRunner().invoke(phantom, ["-o", str(output), *COARSE, *args], catch_exceptions=False)


@pytest.mark.parametrize("suffix", ["mha", "dicom"])
def test_the_truth_names_the_scan(tmp_path: Path, suffix: str) -> None:
    run(tmp_path / "out", "--format", suffix)
    [scan] = [p for p in (tmp_path / "out").iterdir() if p.suffix == ".mha" or p.is_dir()]
    assert {n.series_uid for n in read_nodules(tmp_path / "out" / "annotations.csv")} == {
        read_ct(scan).series_uid
    }


def test_nodules_of_the_table_lie_in_the_labels(tmp_path: Path) -> None:
    run(tmp_path / "out", "--format", "mhd")
    is_nodule, geometry = read_mask(tmp_path / "out" / "nodules.nii.gz")
    truth = read_nodules(tmp_path / "out" / "annotations.csv")
    irc = np.rint(geometry.to_irc([n.center_xyz for n in truth])).astype(int)
    assert is_nodule[tuple(irc.T)].tolist() == [True, True]


def test_count_makes_several_patients(tmp_path: Path) -> None:
    run(tmp_path / "out", "--count", "2", "--seed", "5")
    uids = [n.series_uid for n in read_nodules(tmp_path / "out" / "annotations.csv")]
    assert uids == ["phantom-5", "phantom-5", "phantom-6", "phantom-6"]
