"""What a key depends on, and what not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2ch_luna import geometry, lungs
from p2ch_luna.errors import LunaError
from p2ch_luna.io import checks, scan_keys
from p2ch_luna.io.scan_keys import (
    code_digest,
    content_digest,
    digest_of,
    recipe_digest,
    scan_key,
)
from p2ch_luna.io.whole import files_of

HEADER = "NDims = 3\nDimSize = 4 4 2\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
DECISIVE = ("content", "1.2.3", 1.0, 10.0, "blosc2")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A .mhd whose data file has another name."""
    (tmp_path / "voxels.bin").write_bytes(bytes(64))
    path = tmp_path / "scan.mhd"
    path.write_text(f"{HEADER}ElementDataFile = voxels.bin\n")
    return path


def test_the_content_of_the_same_scan_is_the_same_elsewhere(scan: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "other.mhd"
    copy.parent.mkdir()
    copy.write_bytes(scan.read_bytes())
    copy.with_name("voxels.bin").write_bytes(bytes(64))
    assert content_digest(copy) == content_digest(scan)


def test_the_data_file_changes_the_content(scan: Path) -> None:
    before = content_digest(scan)
    scan.with_name("voxels.bin").write_bytes(bytes(63) + b"\1")
    assert content_digest(scan) != before


@pytest.mark.parametrize("line", ["ElementDataFile\t= voxels.bin", " ElementDataFile =\tvoxels.bin  "])
def test_the_data_file_counts_however_the_header_is_spaced(scan: Path, line: str) -> None:
    scan.write_text(f"{HEADER}{line}\n")
    before = content_digest(scan)
    scan.with_name("voxels.bin").write_bytes(bytes(63) + b"\1")
    assert content_digest(scan) != before


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("scan.mha", f"{HEADER}ElementDataFile = voxels.bin\n"),
        ("scan.nhdr", "NRRD0004\nData File:  voxels.bin\n\n"),
        ("scan.nrrd", "NRRD0004\ndatafile: voxels.bin\n\n"),
    ],
)
def test_the_data_file_counts_whatever_kind_the_header_is(
    scan: Path, tmp_path: Path, name: str, header: str
) -> None:
    (tmp_path / name).write_text(header)
    assert files_of(tmp_path / name) == [tmp_path / name, scan.with_name("voxels.bin")]


def test_a_byte_that_moves_to_the_next_file_changes_the_content() -> None:
    assert digest_of([b"ab", b"c"]) != digest_of([b"a", b"bc"])


def test_a_scan_in_a_zip_has_the_content_of_its_files(scan: Path) -> None:
    parts = [np.frombuffer(path.read_bytes(), np.uint8) for path in files_of(scan)]
    assert digest_of(parts) == content_digest(scan)


def test_the_files_of_a_header_are_itself_and_its_data(scan: Path) -> None:
    assert files_of(scan) == [scan, scan.with_name("voxels.bin")]


def test_a_slice_below_a_folder_changes_its_content(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_bytes(b"same")
    before = content_digest(tmp_path)
    (tmp_path / "deep" / "b").write_bytes(b"Same")
    assert content_digest(tmp_path) != before


def test_a_scan_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"absent\.mha: cannot be read: No such file"):
        content_digest(tmp_path / "absent.mha")


def test_the_same_scan_has_the_same_key() -> None:
    assert scan_key("content", "1.2.3", 1, 10, "blosc2") == scan_key(*DECISIVE)


@pytest.mark.parametrize(("place", "value"), [*enumerate(["other", "1.2.30", 10.0, 1.0, "raw"])])
def test_everything_given_changes_the_key(place: int, value: Any) -> None:
    changed = [*DECISIVE]
    changed[place] = value
    assert scan_key(*changed) != scan_key(*DECISIVE)


def test_a_recipe_given_is_not_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, recipe = scan_key(*DECISIVE), recipe_digest()
    monkeypatch.setattr(scan_keys, "recipe_digest", None)
    assert scan_key(*DECISIVE, recipe=recipe) == wanted


def test_the_format_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = scan_key(*DECISIVE)
    monkeypatch.setattr(scan_keys, "FORMAT_VERSION", -1)
    assert scan_key(*DECISIVE) != before


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (lungs, "GAS_BELOW_HU", -951.0),
        (lungs, "PLACES", 100),
        (lungs, "SKIN_VOXELS", 2.0),
        (lungs, "_IN_PLANE", np.ones((3, 3, 3), bool)),
        (geometry, "AIR_HU", -1001.0),
        (checks, "PADDING_HU", -1025),
    ],
)
def test_a_changed_threshold_changes_the_key(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any
) -> None:
    before = scan_key(*DECISIVE)
    monkeypatch.setattr(module, name, value)
    assert scan_key(*DECISIVE) != before


def test_changed_code_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = scan_key(*DECISIVE)
    code = {**scan_keys._code_digests(), "p2ch_luna.lungs": code_digest(ast.parse("changed = 1"))}
    monkeypatch.setattr(scan_keys, "_code_digests", lambda: code)
    assert scan_key(*DECISIVE) != before


def test_the_recipe_is_all_that_reads_and_prepares() -> None:
    parts = {"lungs", "geometry", *(f"io.{name}" for name in ("volumes", "checks", "dicom", "whole"))}
    assert {f"p2ch_luna.{name}" for name in parts} <= scan_keys._code_digests().keys()


def test_what_does_not_touch_a_voxel_is_not_in_the_recipe() -> None:
    assert not {"p2ch_luna.errors", "p2ch_luna.io.scan_cache"} & scan_keys._code_digests().keys()


def test_the_recipe_is_the_same_in_every_process() -> None:
    code = "from p2ch_luna.io.scan_keys import recipe_digest; print(recipe_digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == recipe_digest()


CODE = "def double(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    "same",
    [
        "# why\ndef double(x):  # what\n\n    return (2  *  x)\n",
        '"""A module."""\n\ndef double(x):\n    """A function."""\n    return 2 * x\n',
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(same: str) -> None:
    assert code_digest(ast.parse(same)) == code_digest(ast.parse(CODE))


def test_a_function_of_a_docstring_alone_is_code_too() -> None:
    code_digest(ast.parse('class A(Exception):\n    """Wrong."""\n'))


@pytest.mark.parametrize("other", [CODE.replace("2", "3"), CODE.replace("*", "+"), CODE + "x = 1\n"])
def test_changed_code_has_another_digest(other: str) -> None:
    assert code_digest(ast.parse(other)) != code_digest(ast.parse(CODE))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import p2ch_luna.lungs, p2ch_luna.geometry", ["p2ch_luna.lungs", "p2ch_luna.geometry"]),
        ("def f():\n    from p2ch_luna.lungs import prepare", ["p2ch_luna.lungs"]),
        ("from p2ch_luna.io import checks", ["p2ch_luna.io", "p2ch_luna.io.checks"]),
        ("import numpy\nfrom pathlib import Path", []),
    ],
)
def test_imported_modules_are_found(source: str, names: list[str]) -> None:
    assert list(scan_keys._imported(ast.parse(source))) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (set("hgfedcba"), "{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}"),
        ({"b": {2}, "a": None}, "{'b': {2}, 'a': None}"),
        ((1, [2.5]), "[1, [2.5]]"),
        (np.array([[1, 2]], np.int16), "int16 [[1, 2]]"),
    ],
)
def test_a_constant_has_one_text(value: Any, text: str) -> None:
    assert scan_keys._plain(value) == text
