"""Rates and probabilities as people read them."""

from __future__ import annotations

import pytest

from p2ch_luna.report.rates import false_positives_text, probability_text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.125, "1/8 false positives a scan"),
        (1.0, "1 false positive a scan"),
        (4.0, "4 false positives a scan"),
    ],
)
def test_a_rate_is_told_as_luna16_writes_it(rate: float, text: str) -> None:
    assert false_positives_text(rate) == text


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.976, "0.98"), (0.1, "0.10"), (0.0473, "0.05"), (0.0064, "0.006"), (0.00031, "0.0003"), (0.0, "0")],
)
def test_a_small_probability_is_not_told_as_none(probability: float, text: str) -> None:
    assert probability_text(probability) == text
