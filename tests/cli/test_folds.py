"""What of a held-out scan's marks is kept for its score."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from p2ch_luna.cli import _folds
from p2ch_luna.findings import Detection
from p2ch_luna.metrics.matching import score_detections


def test_120_tied_marks_are_as_many_as_the_rule_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """None: all are tied with number 101. Cut to 100 first, all would count."""
    marks = [Detection("a", (float(x), 0.0, 0.0), 0.5, 5.0, 65.0, 0.9, 0.9, 0.1) for x in range(120)]
    anything: Any = None
    scan: Any = SimpleNamespace(series_uid="a")
    prepared = SimpleNamespace(load=lambda: None)
    monkeypatch.setattr(_folds, "_detector", lambda *_: (None, lambda *_: marks))
    monkeypatch.setattr("p2ch_luna.datasets.sources.prepare_source", lambda *_: prepared)
    found = _folds._search(anything, [scan], {}, anything, anything)
    assert len(score_detections([], [], ["a"], found["a"]).false_score) == 0
