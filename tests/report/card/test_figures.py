"""Figures go into a card once, and only into that of the weights they were measured with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import Figure, ModelCard, load_card
from p2ch_luna.report.benchmark.schema import BenchmarkReport
from p2ch_luna.report.card.figures import add_failures, add_file


@pytest.fixture
def card(weights: Path) -> ModelCard:
    return load_card(weights)


@pytest.fixture
def file(benchmark: BenchmarkReport, tmp_path: Path) -> Path:
    return written(tmp_path / "benchmark.json", benchmark)


def written(path: Path, benchmark: BenchmarkReport) -> Path:
    path.write_text(benchmark.to_json(), encoding="utf-8")
    return path


def test_a_benchmark_brings_figures_and_failures(card: ModelCard, file: Path) -> None:
    found = add_file(card, file)
    assert found.figures[0].name == "CPM"
    assert [text.partition(":")[0] for text in found.known_failures] == [
        "masses at the hilum",
        "diameter 3-6 mm",
        "in LIDC-IDRI-0001",
    ]


def test_the_same_file_twice_changes_nothing(card: ModelCard, file: Path) -> None:
    once = add_file(card, file)
    assert add_file(once, file) == once


def test_a_later_benchmark_with_another_partner_takes_the_place(
    card: ModelCard, file: Path, benchmark: BenchmarkReport, tmp_path: Path
) -> None:
    """All but the other network and what joins them is the same; now nothing is below 0.7."""
    models = {**benchmark.inputs.models, "segmentation": "e" * 64}
    groups = {"diameter": benchmark.figures.groups["diameter"][1:]}
    later = benchmark.model_copy(
        update={
            "inputs": benchmark.inputs.model_copy(update={"models": models}),
            "figures": benchmark.figures.model_copy(update={"cpm": 0.8, "groups": groups}),
        }
    )
    found = add_file(add_file(card, file), written(tmp_path / "later.json", later))
    assert [figure.value for figure in found.figures if figure.name == "CPM"] == [0.8]
    assert found.known_failures == ("masses at the hilum",)


def test_other_conditions_stay(
    card: ModelCard, file: Path, benchmark: BenchmarkReport, tmp_path: Path
) -> None:
    other = benchmark.model_copy(update={"settings": benchmark.settings.model_copy(update={"seed": 6})})
    by_hand = Figure(name="CPM", value=0.5, on="another set")
    found = add_file(card.model_copy(update={"figures": (by_hand,)}), file)
    found = add_file(found, written(tmp_path / "other.json", other))
    assert [figure.value for figure in found.figures if figure.name == "CPM"] == [0.5, 0.7, 0.7]


def test_figures_of_other_weights_are_refused(card: ModelCard, file: Path) -> None:
    other = card.model_copy(update={"weights_sha256": "a" * 64})
    with pytest.raises(
        LunaError, match=r"benchmark.json: measured with segmentation ffff.*wanted the card's"
    ):
        add_file(other, file)


def test_figures_of_another_calibration_are_refused(card: ModelCard, file: Path) -> None:
    assert card.calibration is not None
    other = card.calibration.model_copy(update={"intercept": -3.0})
    with pytest.raises(
        LunaError,
        match=r"benchmark.json: measured with calibration \w+…; wanted the card's own, calibration \w+…",
    ):
        add_file(card.model_copy(update={"calibration": other}), file)
    with pytest.raises(LunaError, match="wanted the card's own, no calibration: measure it again"):
        add_file(card.model_copy(update={"calibration": None}), file)


def test_the_card_of_a_segmentation_takes_any_calibration(card: ModelCard, file: Path) -> None:
    """But a later one takes the place of the first."""
    config = {"task": "segmentation"}
    assert add_file(card.model_copy(update={"config": config, "calibration": None}), file).figures


def test_a_benchmark_says_nothing_of_malignancy(card: ModelCard, file: Path) -> None:
    other = card.model_copy(update={"config": {"task": "malignancy"}})
    with pytest.raises(LunaError, match="task 'malignancy'; wanted the card of nodule or segmentation"):
        add_file(other, file)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not JSON"),
        ("[]", "its keys are none; wanted benchmark.json"),
        ('{"scan": 1}', "its keys are scan; wanted benchmark.json"),
        ('{"inputs": {}, "figures": {}}', "x.json: inputs.hosts: Field required"),
    ],
)
def test_another_file_is_refused(card: ModelCard, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(LunaError, match=told):
        add_file(card, tmp_path / "x.json")


def test_an_absent_file_is_told(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"x.json: No such file.*wanted benchmark.json"):
        add_file(card, tmp_path / "x.json")


def test_a_failure_by_hand_is_told_once(card: ModelCard) -> None:
    found = add_failures(add_failures(card, ["scars"]), ["scars", "masses at the hilum"])
    assert found.known_failures == ("masses at the hilum", "scars")


def test_the_json_of_a_card_holds_its_figures(card: ModelCard, file: Path) -> None:
    stored = json.loads(add_file(card, file).model_dump_json())
    assert ModelCard.model_validate(stored) == add_file(card, file)
