from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_ct, read_mask, read_nodules


@pytest.fixture(scope="module")
def implanted(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("implant") / "out"
    host, lidc = shared_data / "ct" / "lungfcp-01-0001.mha", shared_data / "lidc"
    with pytest.raises(SystemExit) as done:
        main(["implant", str(host), "--nodules", str(lidc), "--count", "3", "--min-diameter", "8",
              "--folds", "7-9", "--seed", "5", "-o", str(out)])  # fmt: skip
    assert done.value.code == 0
    return out


def test_the_truth_names_the_new_scan(implanted: Path) -> None:
    truth = read_nodules(implanted / "annotations.csv")
    assert len(truth) == 3
    assert {n.series_uid for n in truth} == {"lungfcp-01-0001-implanted-5"}
    assert all(n.diameter_mm >= 8 for n in truth)


def test_the_labels_lie_where_the_truth_says(implanted: Path) -> None:
    mask, geometry = read_mask(implanted / "nodules.nii.gz")
    for nodule in read_nodules(implanted / "annotations.csv"):
        assert mask[tuple(np.rint(geometry.to_irc(nodule.center_xyz)).astype(int))]


def test_only_the_nodules_differ_from_the_host(implanted: Path, shared_data: Path) -> None:
    done = read_ct(implanted / "lungfcp-01-0001-implanted-5.mhd")
    host = read_ct(shared_data / "ct" / "lungfcp-01-0001.mha")
    changed = done.hu != host.hu
    assert 0 < changed.mean() < 0.01
    for voxel in np.argwhere(changed)[::500]:
        xyz = done.geometry.to_xyz(voxel)
        nearest = min(np.linalg.norm(xyz - n.center_xyz) for n in read_nodules(implanted / "annotations.csv"))
        assert nearest < 30


def test_a_folder_that_holds_something_is_not_replaced(
    implanted: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, lidc = shared_data / "ct" / "lungfcp-01-0001.mha", shared_data / "lidc"
    with pytest.raises(SystemExit) as done:
        main(["implant", str(host), "--nodules", str(lidc), "-o", str(implanted)])
    assert done.value.code == 1
    assert "the folder is not empty" in capsys.readouterr().err


def test_a_negative_seed_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as done:
        main(["implant", "a.mha", "--nodules", "lidc", "--seed", "-1", "-o", str(tmp_path / "out")])
    assert done.value.code == 2


def test_nodules_that_the_host_has_keep_their_place_under_the_new_name(
    shared_data: Path, tmp_path: Path
) -> None:
    host, lidc = shared_data / "ct" / "lungfcp-01-0001.mha", shared_data / "lidc"
    (tmp_path / "known.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\nlungfcp-01-0001,1,2,3,4\nanother,5,6,7,8\n"
    )
    with pytest.raises(SystemExit):
        main(["implant", str(host), "--nodules", str(lidc), "--count", "1", "--known",
              str(tmp_path / "known.csv"), "-o", str(tmp_path / "out")])  # fmt: skip
    excluded = read_nodules(tmp_path / "out" / "annotations_excluded.csv")
    assert excluded == [Nodule("lungfcp-01-0001-implanted-0", (1.0, 2.0, 3.0), 4.0)]


def test_a_list_of_other_scans_is_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, known = shared_data / "ct" / "lungfcp-01-0001.mha", tmp_path / "known.csv"
    known.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\nanother,5,6,7,8\n", encoding="utf-8")
    with pytest.raises(SystemExit) as done:
        main(["implant", str(host), "--nodules", str(shared_data / "lidc"), "--known", str(known),
              "-o", str(tmp_path / "out")])  # fmt: skip
    assert done.value.code == 1
    assert "it has 'another', wanted ids such as 'lungfcp-01-0001'" in capsys.readouterr().err
