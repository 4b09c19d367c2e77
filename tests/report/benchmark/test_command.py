"""What `luna benchmark` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.report.benchmark.schema import BenchmarkReport

Luna = Callable[..., tuple[object, str, str]]
LONG_UID = "1.2.840.113654.2.55.1234567890123456789"
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


@pytest.fixture
def ended(command: Callable[..., Luna]) -> Luna:
    """Runs it on a host of a long name."""
    return command("benchmark", LONG_UID)


@pytest.fixture
def luna(ended: Luna) -> Callable[..., str]:
    """Stdout of a run that ends well."""

    def run(*args: object) -> str:
        code, out, _ = ended(*args)
        assert code == 0
        return out

    return run


@pytest.fixture
def luna_fails(ended: Luna) -> Callable[..., str]:
    """Stderr of a run that ends with an error."""

    def run(*args: object) -> str:
        code, _, err = ended(*args)
        assert code == 1
        return err

    return run


def test_the_table_has_the_score_and_every_group(luna: Callable[..., str]) -> None:
    lines = luna().splitlines()
    assert lines[0] == "CPM 1.000  no 95% interval of 1 host"
    assert "3 distinct nodules in 1 host" in lines
    assert "3 of 3 nodules found, 0 missed, 0 false positives in 1 scan(s)" in lines
    titles = [line.split("  ")[0] for line in lines if "nodules  at 1 FP/scan" in line]
    assert titles == ["diameter", "texture", "contrast", "to the lung's edge", "host"]
    assert any(line.split()[:4] == ["6-10", "mm", "2", "1.000"] for line in lines)


def test_the_table_says_what_the_stages_do(luna: Callable[..., str]) -> None:
    """All candidates hit a nodule: there is nothing to tell them from."""
    lines = luna().splitlines()
    assert "3.0 candidates a scan before the classifier" in lines
    assert "from 4 mm          3         3  1.000 [0.439, 1.000]" in lines
    assert "AUC of 3 candidates on nodules and 0 on nothing" in lines
    assert "classifier   not defined" in lines


def test_pictures_are_written_if_they_are_wanted(luna: Callable[..., str], tmp_path: Path) -> None:
    assert "found.png" not in luna()
    assert not (tmp_path / "out" / "found.png").exists()
    assert luna("--pictures").splitlines()[-1].endswith("found.png, missed.png, false_positives.png")
    assert (tmp_path / "out" / "found.png").stat().st_size > 5000


def test_a_list_of_other_scans_findings_is_refused(luna_fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text(HEADER + "elsewhere,1,2,3,4\n", encoding="utf-8")
    err = luna_fails("--known", tmp_path / "known.csv")
    assert f"none of its 1 row(s) is of a host; it has 'elsewhere', wanted ids such as '{LONG_UID}'" in err


def test_of_a_long_uid_the_table_has_the_end(luna: Callable[..., str]) -> None:
    table = luna()
    assert f"...{LONG_UID[-21:]} " in table
    assert LONG_UID not in table


def test_json_is_the_report_that_is_written(luna: Callable[..., str], tmp_path: Path) -> None:
    printed = BenchmarkReport.model_validate(json.loads(luna("--json")))
    written = (tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8")
    assert printed == BenchmarkReport.model_validate_json(written)
