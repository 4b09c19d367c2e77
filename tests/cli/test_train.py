"""`luna train` from the command line; what trains is tested beside the engine, here a stand-in does."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.cli import main
from p2ch_luna.config import as_toml, load_config
from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import bundled, load_card
from p2ch_luna.training import run_dir
from p2ch_luna.training.stop import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore:Unable to enable fault handler")  # stderr is captured


@pytest.fixture
def smoke() -> Path:
    return Path(__file__).parents[2] / "configs" / "smoke.toml"


@pytest.fixture
def nodule(smoke: Path) -> Path:
    return smoke.with_name("nodule.toml")


@pytest.fixture
def run(smoke: Path, tmp_path: Path) -> Path:
    """A run that was interrupted after its first epoch, as far as the command line can tell."""
    folder = tmp_path / "runs" / "segmentation-1"
    folder.mkdir(parents=True)
    run_dir.begin(folder, as_toml(load_config(smoke)), "cpu", 1)
    run_dir.set_status(folder, run_dir.INTERRUPTED)
    run_dir.keep_split(folder, {}, resume=False)
    (folder / run_dir.LAST).write_bytes(b"a checkpoint")
    return folder


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Nothing is trained; what would be is told here."""
    told: list[dict[str, Any]] = []

    def fit(config: Any, run: Path, world: Any, *_: Any, resume: bool, **__: Any) -> Path:
        told.append({"config": config, "run": run, "resume": resume, "device": str(world.device)})
        run_dir.keep_split(run, {}, resume=resume)
        return run / run_dir.MODEL

    monkeypatch.setattr("p2ch_luna.training.fit.fit", fit)
    return told


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes the training raise an error, after its beginning."""

    def fail(error: Exception) -> None:
        def fit(_: Any, run: Path, *__: Any, **___: Any) -> Path:
            run_dir.keep_split(run, {}, resume=False)
            raise error

        monkeypatch.setattr("p2ch_luna.training.fit.fit", fit)

    return fail


def code_of(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return int(done.value.code or 0)


# a new run


def test_a_config_or_a_run_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train") == 2
    assert "wanted a CONFIG to start a run, or --resume RUN" in capsys.readouterr().err


def test_the_model_is_said_on_stdout(
    smoke: Path, tmp_path: Path, fitted: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("train", smoke, "--runs", tmp_path, "--device", "cpu") == 0
    assert capsys.readouterr().out == f"{fitted[0]['run'] / 'model.safetensors'}\n"


@pytest.mark.usefixtures("fitted")
def test_the_folder_of_a_run_holds_its_resolved_config(smoke: Path, tmp_path: Path) -> None:
    changes = ("optim.lr=0.5", "data.train_folds=[1,2]")
    assert code_of("train", smoke, "--runs", tmp_path, *(p for c in changes for p in ("--set", c))) == 0
    (folder,) = tmp_path.iterdir()
    assert load_config(folder / run_dir.CONFIG) == load_config(smoke, changes)


@pytest.mark.usefixtures("fitted")
def test_a_run_is_named_after_its_task(smoke: Path, tmp_path: Path) -> None:
    code_of("train", smoke, "--runs", tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("segmentation-")


def test_a_wrong_key_stops_before_any_data_is_read(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("train", smoke, "--set", "loop.epoch=1", "--runs", tmp_path / "runs") == 1
    assert "unknown key loop.epoch; near is epochs" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_missing_host_is_named(smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ('data.hosts=["no.mha"]', "data.validation_hosts=[]", "data.lidc=")
    sets = [part for change in changes for part in ("--set", change)]
    assert code_of("train", smoke, *sets, "--runs", tmp_path) == 1
    assert "no.mha: no such file or folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # a run that never began leaves no folder


def test_fp16_on_the_cpu_leaves_no_folder(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        code_of("train", smoke, "--set", "compute.precision=fp16", "--runs", tmp_path, "--device", "cpu") == 1
    )
    assert "compute.precision = 'fp16' on cpu" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_segmentation_that_is_not_there_stops_before_any_data_is_read(
    nodule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = code_of("train", nodule, "--set", "validation.segmentation=gone", "--runs", tmp_path)
    assert code == 1
    assert "validation.segmentation: gone: no such file; wanted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_whole_scans_no_segmentation_is_read(
    nodule: Path, tmp_path: Path, fitted: list[dict[str, Any]]
) -> None:
    changes = ("validation.segmentation=gone", "validation.scans=0")
    assert code_of("train", nodule, *(p for c in changes for p in ("--set", c)), "--runs", tmp_path) == 0
    assert len(fitted) == 1


def test_a_run_may_be_what_proposes(nodule: Path, tmp_path: Path, fitted: list[dict[str, Any]]) -> None:
    for file in (bundled("segmentation"), bundled("segmentation").with_suffix(".json")):
        shutil.copy(file, tmp_path / f"model{file.suffix}")
    change = f"validation.segmentation={tmp_path}"
    assert code_of("train", nodule, "--set", change, "--runs", tmp_path / "runs") == 0
    assert len(fitted) == 1


def test_a_device_that_is_absent_stops_before_a_folder_is_made(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert code_of("train", smoke, "--runs", tmp_path / "runs", "--device", "cuda") == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_later_keeps_its_folder(
    smoke: Path, tmp_path: Path, failing: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(LunaError("training diverged at step 7"))
    assert code_of("train", smoke, "--runs", tmp_path, "--device", "cpu") == 1
    assert "training diverged at step 7" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_says_how_to_go_on(
    smoke: Path,
    tmp_path: Path,
    failing: Callable[[Exception], None],
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    failing(Interrupted(number, 7))
    assert code_of("train", smoke, "--runs", tmp_path, "--device", "cpu") == code
    (folder,) = tmp_path.iterdir()
    wanted = f"luna: stopped after step 7 by {number.name}; go on with: luna train --resume {folder}"
    assert wanted in capsys.readouterr().err


# a resumed run


@pytest.mark.usefixtures("capsys")
def test_a_run_is_resumed_with_its_own_config(run: Path, smoke: Path, fitted: list[dict[str, Any]]) -> None:
    assert code_of("train", "--resume", run, "--device", "cpu") == 0
    assert fitted == [{"config": load_config(smoke), "run": run, "resume": True, "device": "cpu"}]


def test_a_resumed_run_is_running(run: Path, failing: Callable[[Exception], None]) -> None:
    failing(LunaError("the machine burns"))
    code_of("train", "--resume", run)
    assert run_dir.load_about(run)["status"] == "running"  # it is `fit` that says how it ended


def test_the_same_config_may_be_named_again(run: Path, smoke: Path, fitted: list[dict[str, Any]]) -> None:
    assert code_of("train", smoke, "--resume", run) == 0
    assert len(fitted) == 1


@pytest.mark.parametrize("with_config", [True, False])
def test_a_resumed_run_keeps_its_config(
    run: Path, smoke: Path, capsys: pytest.CaptureFixture[str], with_config: bool
) -> None:
    arguments = [smoke] if with_config else []
    assert code_of("train", *arguments, "--resume", run, "--set", "optim.lr=1.0") == 1
    said = capsys.readouterr().err
    assert "another config: optim.lr is 1.0, not 0.003 as the run began" in said
    assert "a resumed run keeps its config" in said


def test_another_config_on_resume_names_the_key(
    run: Path, smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(smoke.read_text(encoding="utf-8").replace("seed = 0", "seed = 1"), encoding="utf-8")
    assert code_of("train", other, "--resume", run) == 1
    assert f"{run}: another config: seed is 1, not 0" in capsys.readouterr().err


@pytest.mark.parametrize("status", [run_dir.FINISHED, run_dir.STOPPED])
def test_a_run_that_is_done_is_not_resumed(
    run: Path, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir.set_status(run, status)
    assert code_of("train", "--resume", run) == 1
    assert "this run is done, its model is" in capsys.readouterr().err
    assert run_dir.load_about(run)["status"] == status


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("status", [run_dir.RUNNING, run_dir.FAILED])
def test_a_run_that_was_killed_or_failed_is_resumed(run: Path, status: str) -> None:
    run_dir.set_status(run, status)
    assert code_of("train", "--resume", run) == 0


def test_a_resumed_run_that_fails_at_once_keeps_its_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: Any, **__: Any) -> Path:
        raise LunaError("no scan in folds [0]")

    (run / run_dir.SPLIT).unlink()
    monkeypatch.setattr("p2ch_luna.training.fit.fit", fit)
    assert code_of("train", "--resume", run, "--device", "cpu") == 1
    assert "no scan in folds [0]" in capsys.readouterr().err
    assert run.is_dir()


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train", "--resume", tmp_path) == 1
    assert f"{tmp_path / 'config.toml'}: No such file or directory" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_not_resumed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / run_dir.LAST).unlink()
    assert code_of("train", "--resume", run) == 1
    assert "last.pt: no such file; wanted a run that has a checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_the_smoke_config_learns_what_readme_says_in_under_five_minutes(
    smoke: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = shared_data / "ct" / "lungfcp-01-0001.mha"
    changes = (
        f'data.hosts=["{host}"]',
        f'data.validation_hosts=["{host}"]',
        f"data.lidc={shared_data / 'lidc'}",
    )
    begin = time.monotonic()
    sets = [part for change in changes for part in ("--set", change)]
    assert code_of("train", smoke, *sets, "--runs", tmp_path, "--device", "cpu") == 0
    assert time.monotonic() - begin < 300
    model = Path(capsys.readouterr().out.strip())
    assert load_card(model).metrics["dice"] > 0.5
