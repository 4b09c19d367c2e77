"""Two folders as `luna diagnose` writes them: lungs that were moved, nodules of which one has grown."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2ch_luna.inference.detector import Silent
from p2ch_luna.report.comparison.run import compare, read_both
from p2ch_luna.report.comparison.schema import Comparison
from support.compared import MOVE, current_report, prior_report
from support.lung_pictures import lungs, write_diagnosed


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Not to be written to."""
    both = tmp_path_factory.mktemp("compared")
    (both / "prior").mkdir()
    (both / "current").mkdir()
    prior = write_diagnosed(both / "prior", lungs(), prior_report())
    current = write_diagnosed(both / "current", lungs(MOVE, (0.25, 1.0)), current_report())
    return prior, current


@pytest.fixture(scope="session")
def unlike(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The same reports, the later one with lungs of another patient."""
    folder = tmp_path_factory.mktemp("unlike")
    other = write_diagnosed(folder, lungs(MOVE, (0.25, 1.0), seed=1), current_report())
    return compare(*read_both(folders[0], other), 200, Silent())


@pytest.fixture(scope="session")
def comparison(folders: tuple[Path, Path]) -> Comparison:
    """200 days lie between them."""
    return compare(*read_both(*folders), 200, Silent())
