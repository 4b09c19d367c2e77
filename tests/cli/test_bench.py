"""`luna bench data` on a scan small enough for a test."""

import json

import pytest

from p2ch_luna.cli import main
from p2ch_luna.training.bench_data import Figure


def test_a_bound_is_an_upper_one_unless_said() -> None:
    assert Figure("a", 2.0, "ms", 2.0).holds
    assert not Figure("a", 2.1, "ms", 2.0).holds
    assert Figure("a", 300.0, "a second", 300.0, at_least=True).holds
    assert not Figure("a", 299.0, "a second", 300.0, at_least=True).holds
    assert Figure("a", 1.0, "ms").holds is None


@pytest.mark.slow
def test_every_figure_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["bench", "data", "--scans", "1", "--shape", "60", "96", "96", "--batches", "100", "--json"])
    assert not done.value.code
    figures = {figure["what"]: figure["value"] for figure in json.loads(capsys.readouterr().out)}
    assert len(figures) >= 20
    assert all(value > 0 for what, value in figures.items() if "growth" not in what)
