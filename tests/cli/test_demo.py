"""What `luna demo` says before it begins; whole runs are in test_end_to_end.py."""

from pathlib import Path

import pytest

from p2ch_luna.cli import main
from p2ch_luna.errors import LunaError


@pytest.fixture(autouse=True)
def no_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    """None may be made in these tests."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a phantom is made")

    monkeypatch.setattr("p2ch_luna.datasets.phantom.make_phantom", fail)


def error_of(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the last line on stderr."""
    with pytest.raises(SystemExit) as done:
        main(["demo", *map(str, arguments)])
    return int(done.value.code or 0), capsys.readouterr().err.splitlines()[-1]


def test_a_file_in_the_place_of_the_folder_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, said = error_of("-o", tmp_path / "file", capsys=capsys)
    assert code == 1
    assert "cannot be written" in said


def test_missing_weights_are_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise LunaError("nodule.safetensors: no such file")

    monkeypatch.setattr("p2ch_luna.inference.NoduleDetector.load", fail)
    assert error_of("-o", tmp_path / "out", capsys=capsys) == (
        1,
        "luna: error: nodule.safetensors: no such file",
    )


def test_a_negative_seed_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of("-o", tmp_path / "out", "--seed", "-1", capsys=capsys)[0] == 2
