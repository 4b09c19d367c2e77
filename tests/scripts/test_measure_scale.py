"""What the script makes of times and rates; and, slowly, that a diagnosis and a training can be measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch.utils.tensorboard import SummaryWriter

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_scale.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_scale", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_scale", module)  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_first_scan_of_a_worker_does_not_count(script: ModuleType) -> None:
    assert script.Said((30.0, 34.0, 38.0), 40.0).scans_a_minute(1) == 15


def test_two_workers_do_two_scans_in_the_time_between_every_second_answer(script: ModuleType) -> None:
    """They answer nearly at once, 4 seconds after the last time."""
    assert script.Said((30.0, 30.5, 34.0, 34.5, 38.0, 38.5), 40.0).scans_a_minute(2) == 30


def test_one_slow_scan_does_not_change_the_rate(script: ModuleType) -> None:
    assert script.Said((1.0, 3.0, 5.0, 95.0, 97.0, 99.0), 99.0).scans_a_minute(1) == 30


def test_efficiency_is_against_twice_what_one_does(script: ModuleType) -> None:
    assert script.Compared("scans a minute", 10.0, 15.0).row == "| scans a minute | 10.00 | 15.00 | 75% |"


def test_the_table_has_a_row_for_each_measure(script: ModuleType) -> None:
    made = [script.Compared("scans", 1.0, 2.0), script.Compared("samples", 1.0, 1.0)]
    assert [line.split(" | ")[0] for line in script.table(made).splitlines()] == [
        "| one thread each",
        "|---|---|---|---|",
        "| scans",
        "| samples",
    ]


def test_answers_are_timed_when_they_come_and_nothing_else_is(script: ModuleType) -> None:
    code = "\n".join(
        [
            "import sys, time",
            "for line in ('diagnosing 2 scans (2)', '1/2 a: 3 findings', '2/2 b: failed', 'done'):",
            "    print(line, file=sys.stderr, flush=True)",
            "    time.sleep(0.3)",
        ]
    )
    said = script.listen([sys.executable, "-c", code])
    first, second = said.answers
    assert second - first > 0.1
    assert said.seconds - second > 0.4


def test_a_command_that_fails_is_told_with_its_reason(script: ModuleType) -> None:
    code = "import sys; sys.exit('luna: error: no room\\nmore of it')"
    with pytest.raises(RuntimeError, match=r"code 1; wanted 0: luna: error: no room$"):
        script.listen([sys.executable, "-c", code])


def test_no_cluster_beside_this_machine_takes_part(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    own = script.environment()
    assert ("RAY_ADDRESS" in own, own["OMP_NUM_THREADS"]) == (False, "1")


def test_the_first_epoch_of_a_training_does_not_count(script: ModuleType, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as board:
        for epoch, rate in enumerate((1.0, 8.0, 9.0, 10.0)):
            board.add_scalar("train/samples_per_second", rate, epoch)
    assert script.samples_a_second(tmp_path) == 9


def test_too_few_scans_for_a_rate_are_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--scans", "2"])
    assert "--scans 2: wanted more than 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_diagnosis_is_measured_with_both_engines(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main(["--only", "diagnose", "--scans", "3"])
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("`")[1:2] for row in rows] == [
        ["luna diagnose --engine plain"], [], ["luna diagnose --engine ray"], []
    ]  # fmt: skip
    assert all(float(rate) > 0 for row in rows for rate in row.split(" | ")[1:3])


@pytest.mark.slow
def test_a_training_is_measured(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "EPOCHS", 2)
    monkeypatch.setattr(script, "STEPS", 2)
    script.main(["--only", "train"])
    _, _, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| `torchrun … -m p2ch_luna train`: samples a second | ")
