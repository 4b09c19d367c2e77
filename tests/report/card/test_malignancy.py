"""What a study of malignancy puts into a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import ModelCard, load_card
from p2ch_luna.report.card.figures import add_file
from p2ch_luna.report.card.malignancy import conditions, failures_of, figures_of
from p2ch_luna.report.malignancy.schema import MalignancyReport


@pytest.fixture
def card(weights: Path) -> ModelCard:
    return load_card(weights).model_copy(update={"config": {"task": "malignancy"}})


def written(report: MalignancyReport, folder: Path) -> Path:
    path = folder / "malignancy.json"
    path.write_text(report.to_json(), encoding="utf-8")
    return path


def test_the_auc_stands_beside_that_of_the_diameter(malignancy: MalignancyReport) -> None:
    found = {figure.name: figure for figure in figures_of(malignancy)}
    assert (found["AUC"].value, found["AUC"].interval_95) == (0.95, (0.92, 0.97))
    assert found["AUC of the diameter alone"].value == 0.9
    assert found["AUC above that of the diameter"].interval_95 == (-0.01, 0.11)  # by patient
    assert found["AUC, 6-10 mm (9 malignant, 15 benign)"].value == 0.65
    assert found["share of indeterminate called malignant (40)"].value == 0.25


def test_conditions_say_that_others_judged(malignancy: MalignancyReport) -> None:
    assert conditions(malignancy) == (
        "30 malignant and 70 benign LIDC nodules, as radiologists rated them, of 60 patients, each set into "
        "4 place(s) of 1.2.3, seed 7, judged once, by the one of 2 networks made like this that did not "
        "learn from its patient; not by these weights, by luna malignancy; the interval of an AUC takes "
        "nodules as independent, that of a difference draws patients"
    )


def test_conditions_say_what_weakens_the_figures(malignancy: MalignancyReport) -> None:
    weak = malignancy.model_copy(update={"warnings": ("picked", "seen")})
    assert conditions(weak) == f"{conditions(malignancy)}; picked; seen"


def test_networks_of_another_recipe_say_nothing_of_this_one(
    malignancy: MalignancyReport, card: ModelCard, tmp_path: Path
) -> None:
    longer = card.model_copy(update={"config": {"task": "malignancy", "loop": {"epochs": 3}}})
    with pytest.raises(LunaError, match=r"fold-0 has another config than the card's network in loop; wanted"):
        add_file(longer, written(malignancy, tmp_path))


def test_failures_are_below_seven_in_ten_or_surely_below_the_diameter(malignancy: MalignancyReport) -> None:
    on = conditions(malignancy)
    assert failures_of(malignancy) == [
        "diameter 6-10 mm: AUC 0.65 [0.50, 0.80] of 9 malignant and 15 benign nodules, the diameter alone "
        f"0.90; of all 0.95; {on}",
        "diameter from 20 mm: AUC 0.85 [0.70, 0.96] of 10 malignant and 5 benign nodules, the diameter alone "
        f"0.90; of all 0.95; {on}",
    ]


def test_a_cross_validation_is_of_other_weights(
    malignancy: MalignancyReport, card: ModelCard, tmp_path: Path
) -> None:
    assert add_file(card, written(malignancy, tmp_path)).figures[0].name == "AUC"


def test_a_study_of_one_network_must_be_of_this_one(
    malignancy: MalignancyReport, card: ModelCard, tmp_path: Path
) -> None:
    alone = malignancy.model_copy(update={"judges": malignancy.judges[:1]})
    with pytest.raises(LunaError, match=r"measured with fold-0 000000000000…; wanted the card's own"):
        add_file(card, written(alone, tmp_path))
    own = card.model_copy(update={"weights_sha256": "0" * 64})
    assert "judged by these weights, by" in add_file(own, written(alone, tmp_path)).figures[0].on


def test_it_says_nothing_of_a_network_that_searches(
    malignancy: MalignancyReport, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(LunaError, match="task 'nodule'; wanted the card of malignancy"):
        add_file(load_card(weights), written(malignancy, tmp_path))
