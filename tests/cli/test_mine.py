"""`luna mine` with networks that take all of the lungs for one nodule, or nothing for any."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2ch_luna.cli import main
from p2ch_luna.cli.mine import _miner
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.findings import Candidate, Nodule
from p2ch_luna.inference.propose import ProposalSettings
from p2ch_luna.io import read_candidates, write_ct, write_nodules
from p2ch_luna.lungs import PreparedCt
from p2ch_luna.models.checkpoint import ModelCard, bundled, save_model
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.training.lineage import BEFORE

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"
OF_0332 = (  # two scans of one patient, LIDC-IDRI-0332
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094",
)
NO_ONE: dict[str, list[str]] = {"train": [], "train scans": [], "train hosts": []}
EVERYWHERE, NOWHERE = 4.0, -4.0  # the logit of every voxel
PLACE = (1.0, 2.0, 3.0)  # LPS mm

Run = Callable[..., Path]
Mine = Callable[..., int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chest under two series uids, "phantom" and one of LIDC-IDRI-0332."""
    folder = tmp_path_factory.mktemp("mine")
    phantom = make_phantom(
        np.random.default_rng(0), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0),
        n_nodules=2, diameters_mm=[16, 18], series_uid="phantom",
    )  # fmt: skip
    for uid in ("phantom", OF_0332[0]):
        write_ct(folder / f"{uid}.mhd", replace(phantom.ct, series_uid=uid))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Makes the folder of a run that trained on what is given; its network answers `logit` everywhere."""

    def make(name: str = "run", logit: float = EVERYWHERE, split: Any = NO_ONE) -> Path:
        arguments: dict[str, Any] = {"widths": (2, 4)}
        model = SegmentationUNet(**arguments)
        torch.nn.init.zeros_(model.head.weight)
        torch.nn.init.constant_(model.head.bias, logit)  # type: ignore[arg-type]
        card = ModelCard(
            builder="segmentation_unet",
            arguments=arguments,
            config={},
            data=[],
            split=split,
            metrics={},
            software="test",
        )
        save_model(tmp_path / name / "model.safetensors", model, card)
        (tmp_path / name / "split.json").write_text(json.dumps(split), encoding="utf-8")
        return tmp_path / name

    return make


@pytest.fixture
def mine_for_real(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mine:
    """Runs `luna mine` on "phantom" or other `hosts`, into out.csv; the exit code.

    Scans are prepared once for all tests.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def call(
        *arguments: str | Path,
        config: Path | None = SMOKE,
        hosts: Sequence[str] = ("phantom",),
        output: Path | None = None,
        **tables: Path,
    ) -> int:
        paths = [str(folder / f"{uid}.mhd") for uid in hosts]
        values = {"hosts": json.dumps(paths), "validation_hosts": "[]", **tables}
        sets = [word for key, value in values.items() for word in ("--set", f"data.{key}={value}")]
        named = [] if config is None else ["--config", config]
        target = ["--output", output or tmp_path / "out.csv", "--device", "cpu"]
        with pytest.raises(SystemExit) as done:
            main(["mine", *map(str, [*arguments, *named, *sets, *target])])
        return int(done.value.code or 0)

    return call


@pytest.fixture
def mine(mine_for_real: Mine, monkeypatch: pytest.MonkeyPatch) -> Mine:
    """The same without seconds of computing: the network proposes `PLACE` or, by its logit, nothing."""

    def propose(
        model: SegmentationUNet, prepared: PreparedCt, device: torch.device, _: ProposalSettings
    ) -> list[Candidate]:
        assert model.head.bias is not None
        assert model.head.bias.device == device
        here = Candidate(prepared.ct.series_uid, PLACE, 0.9, 500.0, 10.0)
        return [here] if bool((model.head.bias > 0).any()) else []

    monkeypatch.setattr("p2ch_luna.inference.detector.propose_candidates", propose)
    return mine_for_real


@pytest.fixture
def found(tmp_path: Path) -> Callable[[], list[str]]:
    """The scans of the candidates that were written."""
    return lambda: [c.series_uid for c in read_candidates(tmp_path / "out.csv")]


# candidates and their truth


def test_what_the_network_proposes_is_written(
    mine_for_real: Mine, run: Run, found: Callable[[], list[str]]
) -> None:
    assert mine_for_real(run()) == 0
    assert found() == ["phantom"]  # all of the lungs


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A table of one nodule, which `PLACE` hits."""
    path = tmp_path / "around.csv"
    write_nodules(path, [Nodule("phantom", PLACE, 5.0)])
    return path


def test_a_candidate_of_no_nodule_is_0(mine: Mine, run: Run, tmp_path: Path) -> None:
    assert mine(run()) == 0
    assert [c.is_nodule for c in read_candidates(tmp_path / "out.csv")] == [False]


def test_a_candidate_at_a_nodule_is_1(mine: Mine, run: Run, around: Path, tmp_path: Path) -> None:
    assert mine(run(), annotations=around) == 0
    assert [c.is_nodule for c in read_candidates(tmp_path / "out.csv")] == [True]


def test_a_candidate_at_an_excluded_finding_is_left_out(
    mine: Mine, run: Run, around: Path, found: Callable[[], list[str]]
) -> None:
    assert mine(run(), excluded=around) == 0
    assert found() == []


# who searches what


def test_the_first_run_searches_what_no_run_trained_on(
    mine: Mine, run: Run, found: Callable[[], list[str]]
) -> None:
    assert mine(run("first", NOWHERE), run("second", EVERYWHERE)) == 0
    assert found() == []


@pytest.mark.parametrize("kind", ["train", "train scans", "train hosts", *BEFORE])
def test_a_run_does_not_search_what_it_trained_on(
    mine: Mine, run: Run, found: Callable[[], list[str]], kind: str
) -> None:
    first = run("first", NOWHERE, {**NO_ONE, kind: ["phantom"]})
    assert mine(first, run("second", EVERYWHERE)) == 0
    assert found() == ["phantom"]


def test_what_a_run_validated_on_is_unseen(mine: Mine, run: Run, found: Callable[[], list[str]]) -> None:
    assert mine(run(split={**NO_ONE, "validation": ["phantom"], "validation hosts": ["phantom"]})) == 0
    assert found() == ["phantom"]


@pytest.mark.parametrize(
    "trained", [{"train": ["LIDC-IDRI-0332"]}, {"train hosts": [OF_0332[1]]}], ids=["patient", "other scan"]
)
def test_a_scan_of_a_patient_trained_on_is_left_out_and_told(
    mine: Mine,
    run: Run,
    found: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
    trained: dict[str, list[str]],
) -> None:
    assert mine(run(split=NO_ONE | trained), hosts=("phantom", OF_0332[0])) == 0
    assert found() == ["phantom"]
    said = capsys.readouterr().err
    assert "left out: 1 of 2 scans: every RUN trained on them or their patients; train another" in said
    assert "--also-trained" in said


def test_nothing_left_is_an_error(
    mine: Mine, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(run(split={**NO_ONE, "train hosts": ["phantom"]})) == 1
    assert "error: 1 of 1 scans: every RUN trained on them" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_also_trained_searches_them_with_a_warning(
    mine: Mine, run: Run, found: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(run(split={**NO_ONE, "train hosts": ["phantom"]}), "--also-trained") == 0
    assert found() == ["phantom"]
    assert "warning: 1 of 1 scans: every RUN trained on them" in capsys.readouterr().err


def test_a_scan_is_a_line_on_stderr(mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine(run()) == 0
    assert "phantom: 0 nodules, 1 others" in capsys.readouterr().err.splitlines()


# what a RUN may be


def test_a_run_brings_its_own_config(mine: Mine, run: Run, found: Callable[[], list[str]]) -> None:
    shutil.copy(SMOKE, run() / "config.toml")
    assert mine(run(), config=None) == 0
    assert found() == ["phantom"]


def test_a_model_file_tells_of_its_training_in_its_card(
    mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(run(split={**NO_ONE, "train hosts": ["phantom"]}) / "model.safetensors") == 1
    assert "every RUN trained on them" in capsys.readouterr().err


def test_a_model_file_needs_a_config(mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine(run() / "model.safetensors", config=None) == 2
    assert "wanted --config CONFIG" in capsys.readouterr().err


def test_bundled_is_the_model_of_the_package() -> None:
    miner = _miner("bundled")
    assert miner.weights == bundled("segmentation")
    assert "LIDC-IDRI-0005" in miner.split["train"]


def test_a_model_that_names_no_hosts_is_told_of(
    mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(run(split={"train": []}) / "model.safetensors") == 0
    assert "does not say which hosts it trained on" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["split.json", "model.safetensors"])
def test_a_run_that_lacks_a_file_is_named(
    mine: Mine, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    (run() / file).unlink()
    assert mine(tmp_path / "run") == 1
    assert file in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"validation": []}', '{"train": "all"}'])
def test_a_split_that_says_nothing_of_training_is_an_error(
    mine: Mine, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (run() / "split.json").write_text(text, encoding="utf-8")
    assert mine(tmp_path / "run") == 1
    assert "split.json: " in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(
    mine: Mine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(tmp_path / "none") == 1
    assert "none: not there; wanted a run's folder" in capsys.readouterr().err


def test_a_network_that_proposes_nothing_is_warned_of(
    mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(run(logit=NOWHERE)) == 0
    told = capsys.readouterr()
    assert "out.csv: no candidate in it; luna train wants some where sampling.candidates" in told.err
    assert told.out.startswith("0 candidates written to ")


# what goes wrong before


def test_an_output_that_cannot_be_written_is_told_first(
    mine: Mine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert mine(tmp_path / "none", output=tmp_path / "file" / "out.csv") == 1
    assert "out.csv: cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_no_scan_at_all_is_an_error(mine: Mine, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert mine(run(), hosts=()) == 1
    assert "the config names no scan" in capsys.readouterr().err


def test_annotations_of_other_scans_are_refused(
    mine: Mine, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nodules(tmp_path / "other.csv", [Nodule("9.9.9", (0.0, 0.0, 0.0), 5.0)])
    assert mine(run(), annotations=tmp_path / "other.csv") == 1
    assert "other.csv: its nodules are of no scan here, the first of 9.9.9" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("threshold", "n_found"), [("0.4", 0), ("0.2", 1)])
def test_a_lower_threshold_finds_what_the_network_is_less_sure_of(
    threshold: str, n_found: int, mine_for_real: Mine, run: Run, found: Callable[[], list[str]]
) -> None:
    """A logit of -1 everywhere is a probability of 0.27."""
    assert mine_for_real(run(logit=-1.0), "--threshold", threshold) == 0
    assert len(found()) == n_found
