"""`luna runs` on folders written by hand."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.cli import main
from p2ch_luna.training.run_dir import claimed

Make = Callable[..., Path]
List = Callable[..., tuple[list[str], str]]


def epoch(number: int, hours: float = 1.0, **metrics: float | None) -> dict[str, Any]:
    return {"epoch": number, "step": 10 * number, "seconds": 3600 * hours, "metrics": metrics}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run's folder."""

    def write(
        name: str,
        *history: Mapping[str, Any],
        started: str = "2026-01-01T10:00:00+00:00",
        best_by: str = "sensitivity",
        status: str = "running",
        task: str = "segmentation",
    ) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = f'task = "{task}"\n[loop]\nepochs = 11\nbest_by = "{best_by}"\n'
        (folder / "config.toml").write_text(config, encoding="utf-8")
        about = {"started": started, "status": status}
        (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
        if history:
            (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> List:
    """Lines on stdout, and stderr, of `luna runs` with arguments."""

    def call(
        *arguments: str | Path, folder: Path = tmp_path / "runs", code: int = 0
    ) -> tuple[list[str], str]:
        with pytest.raises(SystemExit) as done:
            main(["runs", str(folder), *map(str, arguments)])
        assert (done.value.code or 0) == code
        out, err = capsys.readouterr()
        return out.splitlines(), err

    return call


@pytest.fixture
def as_json(listed: List) -> Callable[..., list[dict[str, Any]]]:
    return lambda *arguments: json.loads("\n".join(listed("--json", *arguments)[0]))


def names(lines: Sequence[str]) -> list[str]:
    """The first column, without its heading."""
    return [line.split()[0] for line in lines[1:]]


def test_a_run_is_a_line(make: Make, listed: List) -> None:
    make("a", epoch(1, 0.5, sensitivity=0.25), epoch(2, 1.5, sensitivity=0.5), status="finished")
    heading, line = listed()[0]
    assert heading.split() == ["run", "task", "status", "epochs", "best", "time"]
    assert line.split("  ") == [
        "a",
        "",
        "segmentation",
        "finished",
        "2/11",
        "",
        "sensitivity 0.500 (epoch 2)",
        "1.5 h",
    ]


def test_columns_are_aligned(make: Make, listed: List) -> None:
    make("a", status="finished")
    make("much-longer", status="stopped early")
    lines = listed()[0]
    assert len({line.index("segmentation") for line in lines[1:]} | {lines[0].index("task")}) == 1


def test_the_newest_is_first_whatever_its_time_zone(make: Make, listed: List) -> None:
    make("old", started="2026-01-01T10:00:00+00:00")
    make("new", started="2026-01-01T10:30:00+00:00")
    make("middle", started="2026-01-01T12:10:00+02:00")
    assert names(listed()[0]) == ["new", "middle", "old"]


def test_the_best_epoch_is_not_the_last(make: Make, as_json: Callable[..., Any]) -> None:
    make("a", epoch(1, sensitivity=0.2), epoch(2, sensitivity=0.6, dice=0.5), epoch(3, sensitivity=0.4))
    (run,) = as_json()
    assert (run["best"], run["best_epoch"], run["epochs_done"]) == (0.6, 2, 3)
    assert run["metrics"] == {"sensitivity": 0.6, "dice": 0.5}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_not_the_best(
    make: Make, as_json: Callable[..., Any], value: float | None
) -> None:
    make("a", epoch(1, sensitivity=0.2), epoch(2, sensitivity=value))
    (run,) = as_json()
    assert (run["best"], run["best_epoch"]) == (0.2, 1)


def test_other_key_metrics_have_a_column_where_a_run_has_them(make: Make, listed: List) -> None:
    make("a", epoch(1, sensitivity=0.5, dice=0.7, cpm=0.4))
    make("b", epoch(1, nodule_auc=0.9), best_by="nodule_auc", task="nodule")
    heading, *lines = listed()[0]
    assert heading.split() == ["run", "task", "status", "epochs", "best", "cpm", "dice", "time"]
    assert sorted(line.split()[-4:-2] for line in lines) == [["-", "-"], ["0.400", "0.700"]]


def test_a_run_without_an_epoch_has_no_best(make: Make, listed: List) -> None:
    make("a")
    assert listed()[0][1].split() == ["a", "segmentation", "killed", "0/11", "sensitivity", "-", "0", "s"]


def test_a_run_that_a_process_trains_is_running(make: Make, listed: List) -> None:
    with claimed(make("a")):
        assert listed()[0][1].split()[2] == "running"


def test_by_shows_that_metric_and_puts_the_best_first(make: Make, listed: List) -> None:
    make("none", epoch(1, sensitivity=0.9))
    make("low", epoch(1, cpm=0.2))
    make("high", epoch(1, cpm=0.3), epoch(2, cpm=0.1))
    lines = listed("--by", "cpm")[0]
    assert names(lines) == ["high", "low", "none"]
    assert "cpm 0.300 (epoch 1)" in lines[1]


@pytest.mark.parametrize(
    "metric", ["loss", "loss_dice", "malignancy_brier", "diameter_error_mm", "false_positives_per_patch"]
)
def test_by_a_metric_that_should_be_low(make: Make, listed: List, metric: str) -> None:
    make("high", epoch(1, **{metric: 0.4}))
    make("low", epoch(1, **{metric: 0.3}), epoch(2, **{metric: 0.5}))
    lines = listed("--by", metric)[0]
    assert names(lines) == ["low", "high"]
    assert f"{metric} 0.300 (epoch 1)" in lines[1]


def test_by_sensitivity_at_5_percent_fp_is_higher_the_better(make: Make, listed: List) -> None:
    make("low", epoch(1, sensitivity_at_5_percent_fp=0.1))
    make("high", epoch(1, sensitivity_at_5_percent_fp=0.2))
    assert names(listed("--by", "sensitivity_at_5_percent_fp")[0]) == ["high", "low"]


def test_a_metric_that_no_run_has_is_an_error(make: Make, listed: List) -> None:
    make("a", epoch(1, dice=0.5, sensitivity=0.5))
    assert "--by dise: no run has it; wanted one of dice, sensitivity" in listed("--by", "dise", code=1)[1]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.toml", "task ="),
        ("config.toml", 'task = "segmentation"'),
        ("config.toml", "loop = 3"),
        ("run.json", "{"),
        ("run.json", "{}"),
        ("history.json", "[3]"),
        ("history.json", '[{"epoch": 1}]'),
        ("history.json", '[{"epoch": "one", "seconds": 1, "metrics": {}}]'),
    ],
)
def test_a_damaged_run_is_told_and_stops_nothing(make: Make, listed: List, file: str, text: str) -> None:
    make("good")
    (make("bad") / file).write_text(text, encoding="utf-8")
    lines = listed()[0]
    assert names(lines[:2]) == ["good"]
    assert lines[2].startswith("bad: cannot be read: ")


def test_a_run_without_run_json_is_damaged(make: Make, as_json: Callable[..., Any]) -> None:
    (make("bad") / "run.json").unlink()
    (run,) = as_json()
    assert run["name"] == "bad"
    assert "run.json" in run["problem"]


def test_other_folders_and_files_are_passed_over(make: Make, listed: List) -> None:
    (make("a").parent / "notes").mkdir()
    (make("b").parent / "notes.txt").write_text("x", encoding="utf-8")
    assert sorted(names(listed()[0])) == ["a", "b"]


def test_one_run_can_be_listed_alone(make: Make, listed: List) -> None:
    make("a")
    assert names(listed(folder=make("b"))[0]) == ["b"]


@pytest.mark.parametrize("is_there", [True, False])
def test_no_run_at_all_says_how_to_start_one(listed: List, tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "runs").mkdir()
    lines, said = listed()
    assert lines == []
    assert "no run there; luna train configs/smoke.toml starts one" in said


def test_no_run_at_all_is_an_empty_list_in_json(as_json: Callable[..., Any]) -> None:
    assert as_json() == []


def test_a_file_is_no_folder_of_runs(listed: List, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x", encoding="utf-8")
    assert "runs: is a file; wanted the folder" in listed(code=1)[1]


def test_it_does_not_wait_for_torch(make: Make) -> None:
    folder = make("a", epoch(1, sensitivity=0.5)).parent
    code = (
        "import sys\nfrom p2ch_luna.cli import cli\n"
        f"cli.main(['runs', {str(folder)!r}], standalone_mode=False)\nprint('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "False"
