"""What `luna robustness` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.datasets.variants import VARIANTS
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import Diagnosis
from p2ch_luna.report.robustness.schema import RobustnessReport

Luna = Callable[..., tuple[object, str, str]]


@pytest.fixture
def luna(command: Callable[..., Luna]) -> Luna:
    """Runs it on a host."""
    return command("robustness")


def test_the_table_has_a_row_for_each_variant(luna: Luna) -> None:
    code, out, err = luna("--variant", "turned along z")
    assert code == 0
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert rows["as it is"] == ["as", "it", "is", "3", "1.000", "1.000", "1.000", "0.00", "1.000"]
    assert rows["turned along z"][3:] == [
        "3", "1.000", "1.000", "+0.000", "[-0.554,", "0.554]", "1.000", "+0.000", "[-0.554,", "0.554]",
        "0.00", "1.000",
    ]  # fmt: skip
    assert "host-implanted-1, turned along z: 3 marks; 0:00 to go" in err


def test_json_is_the_report_that_is_written(luna: Luna, tmp_path: Path) -> None:
    _, out, _ = luna("--variant", "left half in view", "--json")
    written = (tmp_path / "out" / "robustness.json").read_text(encoding="utf-8")
    assert RobustnessReport.model_validate(json.loads(out)) == RobustnessReport.model_validate_json(written)


def test_all_variants_are_made_if_none_is_named(
    luna: Luna, detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finds_nothing(_: Any, ct: CtVolume) -> Diagnosis:
        return Diagnosis(ct.series_uid, [], [], {}, detector.proposal, {})

    monkeypatch.setattr(type(detector), "__call__", finds_nothing)
    code, out, err = luna()
    assert code == 0
    assert "changing and diagnosing (15)" in err
    named = [line.split("  ")[0] for line in out.splitlines() if line.endswith("0.00        0.000")]
    assert named == list(VARIANTS)
    assert "no score gives at most 1 FP/scan as it is" in out


def test_a_variant_that_is_none_is_told(luna: Luna, detector: Any) -> None:
    code, _, err = luna("--variant", "mirrored")
    assert code == 1
    assert "--variant mirrored: there is none of that name; there are as it is, slices of 0.6 mm" in err
    assert detector.calls == 0
