"""The stand-in for LUNA16 is laid out as LUNA16, with real uids and lists that fit its scans."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.catalogue import find_lists, index_scans
from p2ch_luna.datasets.preparation import misplaced
from p2ch_luna.io import read_nodules, read_series_uids

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_luna16_standin.py"


@pytest.fixture(scope="module")
def standin(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "LUNA16"
    options = ["--small", "--broken", "--scans", "4", "--zip", "1", "--data", str(shared_data)]
    subprocess.run([sys.executable, SCRIPT, folder, *options], check=True, capture_output=True)
    return folder


def test_uids_and_subsets_are_official(standin: Path, shared_data: Path) -> None:
    with (shared_data / "luna16" / "subsets.csv").open() as file:
        official = {row["seriesuid"]: int(row["subset"]) for row in csv.DictReader(file)}
    lists = find_lists(standin)
    assert lists.series_uids is not None
    catalogue = index_scans([standin], listed=read_series_uids(lists.series_uids))
    assert [(s.series_uid, s.subset) for s in catalogue.sources] == [
        (s.series_uid, official[s.series_uid]) for s in catalogue.sources
    ]
    assert [s.subset for s in catalogue.sources] == [0, 1, 2, 3, 4]
    assert [p.subset for p in catalogue.problems] == [5]  # without its .raw


def test_one_subset_is_zipped(standin: Path) -> None:
    assert [s.path.name for s in index_scans([standin]).sources if s.member] == ["subset0.zip"]


def test_one_scan_is_cut_short(standin: Path) -> None:
    sizes = {path.parent.name: path.stat().st_size for path in standin.glob("subset*/*.raw")}
    assert sizes["subset4"] == sizes["subset3"] // 3


def test_the_nodules_lie_where_the_list_says(standin: Path) -> None:
    """Soft tissue at the centre of the largest."""
    sources = index_scans([standin]).sources
    lists = find_lists(standin)
    assert lists.annotations is not None
    nodules = read_nodules(lists.annotations)
    assert misplaced(lists.annotations, nodules, sources) == []
    for source in sources[:4]:
        ct = source.read()
        largest = max((n for n in nodules if n.series_uid == source.series_uid), key=lambda n: n.diameter_mm)
        i, r, c = np.rint(ct.geometry.to_irc(largest.center_xyz)).astype(int)
        assert ct.hu[i, r, c] > -600


def test_all_lists_are_there(standin: Path) -> None:
    assert all(vars(find_lists(standin)).values())
