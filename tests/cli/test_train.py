from pathlib import Path

import pytest

from p2ch_luna.cli import main
from p2ch_luna.config import load_config
from p2ch_luna.training.run_dir import save_config


def code_of(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return int(done.value.code or 0)


def test_a_config_or_a_run_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train") == 2
    assert "wanted a CONFIG to start a run, or --resume RUN" in capsys.readouterr().err


def test_a_wrong_key_stops_before_any_data_is_read(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("train", smoke, "--set", "loop.epoch=1", "--runs", tmp_path / "runs") == 1
    assert "unknown key loop.epoch; near are epochs" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_missing_host_is_named(smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        code_of(
            "train",
            smoke,
            "--set",
            'data.hosts=["no.mha"]',
            "--set",
            "data.validation_hosts=[]",
            "--set",
            "data.lidc=",
            "--runs",
            tmp_path,
        )
        == 1
    )
    assert "no.mha: no such file or folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # a run that never began leaves no folder


def test_a_resumed_run_keeps_its_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train", "--resume", tmp_path, "--set", "optim.lr=1") == 1
    assert "a resumed run keeps its config" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("train", "--resume", tmp_path) == 1
    assert "config.json" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_not_resumed(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_config(tmp_path, load_config(smoke, ['data.hosts=["no.mha"]']).model_dump(mode="json"))
    assert code_of("train", "--resume", tmp_path) == 1
    assert "last.pt: no such file; wanted a run with an epoch done" in capsys.readouterr().err


def test_a_device_that_is_absent_stops_before_a_folder_is_made(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert code_of("train", smoke, "--runs", tmp_path / "runs", "--device", "cuda") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_smoke_config_trains_from_the_command_line(
    smoke: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = f'data.hosts=["{shared_data / "ct" / "lungfcp-01-0001.mha"}"]'
    lidc = f"data.lidc={shared_data / 'lidc'}"
    assert code_of("train", smoke, "--set", hosts, "--set", lidc, "--runs", tmp_path, "--device", "cpu") == 0
    said = capsys.readouterr()
    assert Path(said.out.strip()).is_file()
    assert "epoch 2/2" in said.err


@pytest.fixture
def smoke() -> Path:
    return Path(__file__).parents[2] / "configs" / "smoke.toml"
