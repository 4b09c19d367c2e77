"""`luna export`: what it prints, and which model it takes."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from p2ch_luna.cli import main
from p2ch_luna.cli._common import runtime_option
from p2ch_luna.cli.export import FORMATS, export
from p2ch_luna.export import formats
from p2ch_luna.export.schema import FormatName
from p2ch_luna.inference.runtime import Runtime
from p2ch_luna.models.checkpoint import bundled


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as done:
        main(["export", *map(str, arguments)])
    return done.value.code


def test_the_formats_are_those_that_there_are() -> None:
    assert tuple(formats.FORMATS) == FORMATS == get_args(FormatName)


def test_the_runtimes_are_those_that_there_are() -> None:
    @runtime_option
    def command() -> None: ...

    (option,) = command.__click_params__  # type: ignore[attr-defined]
    assert tuple(option.type.choices) == get_args(Runtime)


def test_a_bundled_network_is_written_under_its_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run("malignancy", "--format", "torchscript", "-o", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"malignancy.ts.pt", "malignancy.json", "malignancy.export.json"}
    assert "malignancy.ts.pt: torchscript, differs from torch by 0 at most" in capsys.readouterr().out


def test_a_run_gives_its_name_and_json_is_the_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    shutil.copy(bundled("malignancy"), folder / "model.safetensors")
    shutil.copy(bundled("malignancy").with_suffix(".json"), folder / "model.json")
    assert not run(folder, "--format", "onnx", "-o", tmp_path / "out", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "run-1.export.json").read_text(encoding="utf-8"))


def test_a_model_that_is_not_there_is_told_with_the_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "--format", "onnx", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "none: no such file; wanted a model (.safetensors) or a run's folder, or one of the words" in said


def test_a_ct_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = tmp_path / "chest.mha"
    scan.write_bytes(b"NDims = 3\n")
    assert run(scan, "--format", "onnx", "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        f"luna: error: {scan}: is no model; wanted a .safetensors file with its card, or a run's folder, "
        "or one of the words segmentation, nodule, malignancy\n"
    )


def test_weights_without_their_card_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(bundled("malignancy"), tmp_path / "bare.safetensors")
    assert run(tmp_path / "bare.safetensors", "--format", "onnx", "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        f"luna: error: {tmp_path / 'bare.json'}: no such file; wanted the model's card there, beside its "
        "weights bare.safetensors\n"
    )


def test_a_format_must_be_named() -> None:
    assert run("nodule", "-o", "out") == 2
    assert {option.name for option in export.params} == {"model", "formats", "output", "as_json"}
