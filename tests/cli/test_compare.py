"""`luna compare` on two folders made by hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2ch_luna.cli.compare import compare
from support.compared import MOVE, current_report, prior_report
from support.lung_pictures import lungs, write_diagnosed


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `prior` and `current`, not to be written to."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "prior").mkdir()
    (folder / "current").mkdir()
    write_diagnosed(folder / "prior", lungs(), prior_report())
    write_diagnosed(folder / "current", lungs(MOVE, (0.25, 1.0)), current_report())
    return folder


def run(both: Path, *options: str) -> Result:
    args = [str(both / "prior"), str(both / "current"), *options]
    return CliRunner().invoke(compare, args, catch_exceptions=False)


def test_a_row_a_nodule_and_the_files(both: Path, tmp_path: Path) -> None:
    done = run(both, "--days", "200", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0
    row = next(line.split() for line in done.stdout.splitlines() if line.split()[:2] == ["F2", "F2"])
    assert " ".join(row[2:12]) == "right lower 8.0 > 10.0 +2.0 268 > 524 +96%"
    assert "207 days  growing" in done.stdout
    assert "new, seen in the prior scan below the threshold: 4.5 mm, probability 0.2" in done.stdout
    assert "vanished\n" in done.stdout
    assert "not covered, outside the current scan" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "comparison.png"]


def test_json_with_the_days_between_two_dates(both: Path) -> None:
    """2024 is a leap year."""
    done = run(both, "--json", "--prior-date", "2024-02-28", "--current-date", "2025-03-01")
    content = json.loads(done.stdout)
    assert content["days"] == 367
    assert content["nodules"][0]["growth"]["verdict"] == "larger"


def test_without_a_time_it_is_told_how_to_give_one(both: Path) -> None:
    assert "for volume doubling times: --days, or --prior-date and --current-date" in run(both).stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--prior-date", "2024-01-01"), "one date is given"),
        (("--prior-date", "2024-01-01", "--current-date", "2024-01-01"), "is not after"),
        (("--days", "5", "--prior-date", "2024-01-01", "--current-date", "2024-01-06"), "wanted one of them"),
        (("--days", "0"), "0 is not in the range"),
        (("--prior-date", "1.1.2024"), "does not match"),
    ],
)
def test_a_time_that_is_none_is_wrong_usage(both: Path, options: tuple[str, ...], complaint: str) -> None:
    done = run(both, *options)
    assert done.exit_code == 2
    assert complaint in done.stderr
