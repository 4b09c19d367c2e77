"""`luna config` on small files: the scans are empty ones, as none is read."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy

import pytest

from p2ch_luna.cli import main
from p2ch_luna.config import load_config
from p2ch_luna.findings import Nodule
from p2ch_luna.io import write_nodules
from p2ch_luna.models.checkpoint import bundled, card_path

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"
NODULE = SMOKE.with_name("nodule.toml")
HOSTS = 'data.{}=["host.mha"]'
NODULE_CHANGES = (
    "lidc=",
    "cubes=",
    "cube_patients=",
    "candidates=[]",
    "hosts=[]",
    "validation_hosts=[]",
    "excluded=",
)
NODULE_SHARES = ("cubes=0", "candidates=0", "vessels=0")
BUNDLED_WIDTHS = json.loads(card_path(bundled("segmentation")).read_bytes())["arguments"]["widths"]


def luna(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main(["config", *map(str, arguments)])
    return int(done.value.code or 0)


@pytest.fixture
def luna16(tmp_path: Path) -> Path:
    """LUNA16's layout: two scans in subset 0, one in subset 1, a nodule in each subset."""
    folder = tmp_path / "luna16"
    for number, uid in ((0, "1.2.840.2"), (0, "1.2.840.3"), (1, "1.2.840.4")):
        (folder / f"subset{number}").mkdir(parents=True, exist_ok=True)
        for suffix in ("mhd", "raw"):
            (folder / f"subset{number}" / f"{uid}.{suffix}").touch()
    nodules = [Nodule(uid, (0.0, 0.0, 0.0), 9.0) for uid in ("1.2.840.2", "1.2.840.4")]
    write_nodules(folder / "annotations.csv", nodules)
    write_nodules(folder / "annotations_excluded.csv", [])
    return folder


@pytest.fixture
def config(luna16: Path, tmp_path: Path) -> Path:
    """Trains on subset 0 and validates on 1."""
    text = SMOKE.read_text(encoding="utf-8")
    for old, new in (
        ('luna16 = ""', f'luna16 = "{luna16}"'),
        ('lidc = "../shared/data/lidc"', 'lidc = ""'),
        ('["../shared/data/ct/lungfcp-01-0001.mha"]', "[]"),
        ("validation_folds = [6]", "validation_folds = [1]"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_show_prints_the_config_with_what_was_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("show", SMOKE, "--set", "optim.lr=0.5") == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(tmp_path / "shown.toml") == load_config(SMOKE, ["optim.lr=0.5"])


def test_show_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("show", SMOKE, "--json") == 0
    assert json.loads(capsys.readouterr().out) == load_config(SMOKE).model_dump(mode="json")


def test_show_refuses_an_unknown_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("show", SMOKE, "--set", "loop.epoch=1") == 1
    assert "unknown key loop.epoch; near is epochs" in capsys.readouterr().err


def test_a_good_config_is_told_with_what_either_side_has(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna("check", config) == 0
    assert capsys.readouterr().out == (
        f"{config}: good: task segmentation; train folds 0: 2 scans; validation folds 1: 1 scan\n"
    )


def test_a_fold_that_is_not_there_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("check", config, "--set", "data.train_folds=[0, 3]") == 1
    assert (
        f"{config}: data.train_folds: fold 3 has no scan; folds with scans: 0, 1\n" in capsys.readouterr().err
    )


def test_a_side_without_a_scan_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert luna("check", config, "--set", "data.validation_folds=[]") == 1
    told = capsys.readouterr().err
    assert f"{config}: data.validation_folds = []: no scan and no host; wanted one\n" in told


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("data.luna16", "gone", "data.luna16: gone"),
        ("data.hosts", '["gone.mha"]', "data.hosts: gone.mha"),
        ("data.excluded", "gone.csv", "data.excluded: gone.csv"),
    ],
)
def test_a_path_that_is_not_there_is_told_with_its_key(
    config: Path, capsys: pytest.CaptureFixture[str], key: str, value: str, named: str
) -> None:
    assert luna("check", config, "--set", f"{key}={value}") == 1
    assert f"luna: error: {config}: {named}: no such file or folder\n" in capsys.readouterr().err


def test_of_candidates_that_are_not_there_it_is_told_who_writes_them(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert luna("check", config, "--set", 'data.candidates=["gone.csv"]') == 1
    assert (
        "data.candidates: gone.csv: no such file or folder; `luna mine` writes it" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ("gone", "validation.segmentation: gone: "),
        (bundled("nodule"), "holds a nodule_classifier; wanted a segmentation_unet"),
    ],
)
def test_a_classifiers_segmentation_is_looked_at(
    luna16: Path, capsys: pytest.CaptureFixture[str], segmentation: Path | str, told: str
) -> None:
    changes = [f"data.{change}" for change in NODULE_CHANGES] + [f"sampling.{x}" for x in NODULE_SHARES]
    changes += [f"data.luna16={luna16}", "data.train_folds=[0]", "data.validation_folds=[1]"]
    sets = [f"--set={change}" for change in changes]
    assert luna("check", NODULE, *sets) == 0
    assert luna("check", NODULE, *sets, f"--set=validation.segmentation={segmentation}") == 1
    assert told in capsys.readouterr().err


def test_a_run_without_a_model_is_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    assert luna("check", config, "--set", f"start.init_from={tmp_path / 'run'}") == 1
    assert (
        f"start.init_from: {tmp_path / 'run'}: no model.safetensors in it; wanted" in capsys.readouterr().err
    )


def test_a_run_with_a_model_passes(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for suffix in (".safetensors", ".json"):
        copy(bundled("segmentation").with_suffix(suffix), tmp_path / "run" / f"model{suffix}")
    sets = (f"start.init_from={tmp_path / 'run'}", f"model.widths={BUNDLED_WIDTHS}")
    assert luna("check", config, *(f"--set={change}" for change in sets)) == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["start.init_from=gone.safetensors"], "start.init_from: gone.safetensors: no such file; wanted"),
        ([f"start.init_from={bundled('nodule')}"], "holds a nodule_classifier; wanted a segmentation_unet"),
        ([f"start.init_from={bundled('segmentation')}", "model.widths=[4, 8]"], ", as [model] says"),
        (
            [f"start.init_from={bundled('segmentation')}", 'start.frozen=["stemm"]'],
            "start.frozen: the network has no part 'stemm'",
        ),
    ],
)
def test_a_network_that_cannot_begin_so_is_told(
    config: Path, capsys: pytest.CaptureFixture[str], changes: list[str], told: str
) -> None:
    assert luna("check", config, *(f"--set={change}" for change in changes)) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["sampling.cubes=0.5"], "train: sampling.cubes = 0.5, but the data have no such sample"),
        (["sampling.implants=0"], "train: no sample holds a nodule"),
        (
            ["data.luna16=", HOSTS.format("hosts"), HOSTS.format("validation_hosts")],
            "train: sampling.implants =",
        ),
        (["data.train_folds=[]", HOSTS.format("hosts")], "train: sampling.implants = 0.8, but"),
        (
            ["data.validation_folds=[]", HOSTS.format("validation_hosts")],
            "validation: no sample holds a nodule",
        ),
    ],
    ids=["share of none", "no nodules asked for", "no nodules there", "no train fold", "no validation fold"],
)
def test_samples_that_cannot_be_drawn_are_told(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("host.mha").touch()
    assert luna("check", config, *(f"--set={change}" for change in changes)) == 1
    assert f"luna: error: {config}: {told}" in capsys.readouterr().err


def test_every_config_is_checked_and_one_problem_is_enough_to_fail(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("task = 3", encoding="utf-8")
    assert luna("check", bad, config, tmp_path / "gone.toml") == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"{config}: good: ")
    assert [line.split(": ")[2] for line in told.err.splitlines()] == [str(bad), str(tmp_path / "gone.toml")]
