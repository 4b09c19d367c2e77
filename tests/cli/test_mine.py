"""`luna mine` with a network that takes all of the lungs for one nodule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.io import read_candidates, write_ct, write_nodules
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.models.unet import SegmentationUNet

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan of the series uid "phantom" and the network."""
    folder = tmp_path_factory.mktemp("mine")
    phantom = make_phantom(
        np.random.default_rng(0), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0),
        n_nodules=2, diameters_mm=[16, 18], series_uid="phantom",
    )  # fmt: skip
    write_ct(folder / "phantom.mhd", phantom.ct)
    arguments: dict[str, Any] = {"widths": (2, 4)}
    model = SegmentationUNet(**arguments)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.constant_(model.head.bias, 4.0)  # type: ignore[arg-type]
    card = ModelCard(
        builder="segmentation_unet",
        arguments=arguments,
        config={},
        data=[],
        split={},
        metrics={},
        software="test",
    )
    save_model(folder / "all.safetensors", model, card)
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The smoke config of the small scan with another table in the place of `annotations` or `excluded`."""

    def write(**tables: str) -> Path:
        smoke = SMOKE.read_text(encoding="utf-8")
        host = smoke.replace("../shared/data/ct/lungfcp-01-0001.mha", str(folder / "phantom.mhd"))
        for key, value in tables.items():
            host = host.replace(f'{key} = ""', f'{key} = "{value}"')
        (tmp_path / "config.toml").write_text(host, encoding="utf-8")
        return tmp_path / "config.toml"

    return write


@pytest.fixture
def mine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `luna mine` with arguments; the exit code. Scans are prepared once for all tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def run(config: Path, output: Path, weights: Path = folder / "all.safetensors") -> int:
        with pytest.raises(SystemExit) as done:
            main(["mine", str(config), "--segmentation", str(weights), "-o", str(output), "--device", "cpu"])
        return int(done.value.code or 0)

    return run


@pytest.fixture
def candidate(mine: Callable[..., int], config: Callable[..., Path], tmp_path: Path) -> Candidate:
    """The one that is mined where nothing is annotated."""
    assert mine(config(), tmp_path / "unlabelled.csv") == 0
    (found,) = read_candidates(tmp_path / "unlabelled.csv")
    return found


@pytest.fixture
def around(candidate: Candidate, tmp_path: Path) -> Path:
    """A table of one nodule, which the candidate hits."""
    path = tmp_path / "around.csv"
    write_nodules(path, [Nodule("phantom", candidate.center_xyz, 5.0)])
    return path


def test_a_candidate_of_no_nodule_is_0(candidate: Candidate) -> None:
    assert (candidate.series_uid, candidate.is_nodule) == ("phantom", False)


def test_a_candidate_at_a_nodule_is_1(
    mine: Callable[..., int], config: Callable[..., Path], around: Path, tmp_path: Path
) -> None:
    assert mine(config(annotations=around), tmp_path / "out.csv") == 0
    assert [c.is_nodule for c in read_candidates(tmp_path / "out.csv")] == [True]


def test_a_candidate_at_an_excluded_finding_is_left_out(
    mine: Callable[..., int], config: Callable[..., Path], around: Path, tmp_path: Path
) -> None:
    assert mine(config(excluded=around), tmp_path / "out.csv") == 0
    assert read_candidates(tmp_path / "out.csv") == []


def test_an_output_that_cannot_be_written_is_told_first(
    mine: Callable[..., int], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert mine(config(), tmp_path / "file" / "out.csv", weights=tmp_path / "none.safetensors") == 1
    assert "out.csv: cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_annotations_of_other_scans_are_refused(
    mine: Callable[..., int], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nodules(tmp_path / "other.csv", [Nodule("9.9.9", (0.0, 0.0, 0.0), 5.0)])
    assert mine(config(annotations=tmp_path / "other.csv"), tmp_path / "out.csv") == 1
    assert "other.csv: its nodules are of no scan here, the first of 9.9.9" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
