"""A truth and a submission of two scans, small enough to score by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2ch_luna.findings import Nodule
from p2ch_luna.io import write_nodules
from p2ch_luna.io.tables import ScoredPoint
from p2ch_luna.report.evaluation.run import Answer, Lists, run_evaluation
from p2ch_luna.report.evaluation.scores import Truth


@pytest.fixture(scope="session")
def truth() -> Truth:
    nodules = [
        Nodule("1.2.1", (0.0, 0.0, 0.0), 5.0, malignancy=2.0, texture=1.5),  # missed
        Nodule("1.2.1", (50.0, 0.0, 0.0), 8.0, malignancy=4.0, texture=5.0),  # found at 0.9
        Nodule("1.2.2", (0.0, 0.0, 0.0), 25.0, malignancy=3.0, texture=3.0),  # filtered out: 0.2
        Nodule("1.2.2", (0.0, 90.0, 0.0), 2.0),  # missed, not rated
    ]
    return Truth(nodules, [], ["1.2.1", "1.2.2"])


@pytest.fixture(scope="session")
def marks() -> list[ScoredPoint]:
    return [
        ScoredPoint("1.2.2", (90.0, 0.0, 0.0), 0.3),  # false, beyond 1 a scan
        ScoredPoint("1.2.1", (51.0, 0.0, 0.0), 0.9),
        ScoredPoint("1.2.1", (-70.0, 0.0, 0.0), 0.8),  # false, the first
        ScoredPoint("1.2.1", (-80.0, 0.0, 0.0), 0.4),  # false, the second: 1 a scan
        ScoredPoint("1.2.2", (0.0, 0.0, 5.0), 0.2),
    ]


@pytest.fixture(scope="session")
def files(truth: Truth, marks: list[ScoredPoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as truth.csv, a.csv, and b.csv, which has the marks of 1.2.1 alone."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_nodules(folder / "truth.csv", truth.nodules)
    header = "seriesuid,coordX,coordY,coordZ,probability"
    rows = [",".join(map(str, (m.series_uid, *m.center_xyz, m.probability))) for m in marks]
    (folder / "a.csv").write_text("\n".join([header, *rows]))
    (folder / "b.csv").write_text("\n".join([header, *(row for row in rows if row.startswith("1.2.1"))]))
    return folder


@pytest.fixture(scope="session")
def alone(files: Path) -> Answer:
    return run_evaluation([files / "a.csv"], Lists(files / "truth.csv", None, None), 0.0, seed=0)


@pytest.fixture(scope="session")
def both(files: Path) -> Answer:
    lists = Lists(files / "truth.csv", None, None)
    return run_evaluation([files / "a.csv", files / "b.csv"], lists, 0.0, seed=0)
