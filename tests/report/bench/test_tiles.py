"""What `luna bench diagnose --tiles` compares."""

import json
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.cli import main
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference.classify import BATCH
from p2ch_luna.inference.tiles import MAX_VOXELS
from p2ch_luna.io import write_ct
from p2ch_luna.report.bench.tiles import BATCHES, CHOICES, SIDES, Choice


def test_the_defaults_are_among_the_choices() -> None:
    assert MAX_VOXELS in [side**3 for side in SIDES]
    assert BATCH in BATCHES
    assert Choice("").side ** 3 == MAX_VOXELS


@pytest.mark.slow
def test_every_choice_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hu = np.zeros((40, 64, 64), np.int16)
    hu[8:32, 16:48, 8:28] = hu[8:32, 16:48, 36:56] = -850
    hu[:, :4] = hu[:, -4:] = hu[:, :, :4] = hu[:, :, -4:] = -1000
    write_ct(tmp_path / "ct.mha", CtVolume("small", hu, ImageGeometry.axial((4.0, 4.0, 5.0))))
    with pytest.raises(SystemExit) as done:
        main(["bench", "diagnose", "--scan", str(tmp_path / "ct.mha"), "--tiles", "--runs", "1", "--json"])
    assert not done.value.code
    figures = json.loads(capsys.readouterr().out)
    assert len(figures) == 2 * len(CHOICES)
    assert all(figure["value"] > 0 for figure in figures)
