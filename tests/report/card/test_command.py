"""`luna card` shows a card and changes nothing of it but what it is asked to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.models.checkpoint import card_path, load_card
from p2ch_luna.report.benchmark.schema import BenchmarkReport
from p2ch_luna.report.card.sections import Section
from p2ch_luna.report.card.text import as_markdown

Card = Callable[..., str]


@pytest.fixture
def text(luna_card: Card, weights: Path) -> str:
    """Without runs of spaces."""
    return "\n".join(" ".join(line.split()) for line in luna_card(weights).splitlines())


def test_it_says_what_the_model_is_for(text: str) -> None:
    assert "Judges: says of a proposed place how probable it is a nodule." in text
    assert "Research only, not a medical device." in text
    assert "- nodules_of_x: CC BY 3.0\n- chest y: CC BY 4.0" in text


def test_patients_are_counted_by_side(text: str) -> None:
    assert "training 2 not told 1" in text
    assert "training before, of the weights it began with 3 not told not told" in text
    assert "validation 1 not told not told" in text
    assert "untouched folds: 7, 8" in text
    assert "patient-1" not in text


def test_patients_are_named_if_asked(luna_card: Card, weights: Path) -> None:
    assert "train (2)\n  patient-1, patient-2" in luna_card(weights, "--patients")


def test_the_config_is_told_in_short(text: str) -> None:
    assert "length 11 epochs of 500 steps of 4 samples" in text
    assert "samples implants 0.7\n" in text  # those that are none are left out
    assert "began with first.safetensors" in text


def test_metrics_are_of_the_epoch(text: str) -> None:
    assert "Figures of epoch 7," in text
    assert "nodule auc 0.910\nfalse positives per patch 1.6\n" in text


def test_validation_scans_that_were_trained_on_are_told(luna_card: Card, weights: Path) -> None:
    told = "scan(s) that these nodules are set into were trained on"
    assert told not in luna_card(weights)
    card = load_card(weights)
    split = {
        **card.split,
        "train hosts": ["a", "b"],
        "pretrained hosts": ["c"],
        "validation hosts": ["b", "c", "d"],
    }
    seen = card.model_copy(update={"split": split})
    card_path(weights).write_text(seen.model_dump_json(), encoding="utf-8")
    assert f"2 of the 3 {told}" in " ".join(luna_card(weights).split())


def test_operating_points_come_with_the_formula(text: str) -> None:
    assert "sigmoid(0.500 x logit of the segmentation + 1.250 x logit of the classifier -2.000)" in text
    assert "0.125 0.9000 0.500\n4 0.0625 0.750" in text
    assert "Fitted on 40 nodules of fold 6." in text


def test_parameters_are_counted(luna_card: Card, weights: Path) -> None:
    """As of the network itself."""
    from p2ch_luna.models.checkpoint import load_model

    model, _ = load_model(weights)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert json.loads(luna_card(weights, "--json"))["parameters"] == counted


def test_json_is_the_card_with_counts(luna_card: Card, weights: Path) -> None:
    found = json.loads(luna_card(weights, "--json"))
    assert found["split"] == {
        "train": 2, "train hosts": 1, "validation": 1, "pretrained on": 3, "untouched folds": 2
    }  # fmt: skip
    assert found["known_failures"] == ["masses at the hilum"]
    named = json.loads(luna_card(weights, "--json", "--patients"))
    assert named["split"]["train"] == ["patient-1", "patient-2"]


def test_markdown_has_headings_lists_and_tables(luna_card: Card, weights: Path) -> None:
    page = luna_card(weights, "--markdown")
    assert page.startswith(f"# {weights}: nodule\n\n## What it is\n\nJudges")
    assert "\n- nodules_of_x: CC BY 3.0\n- chest y: CC BY 4.0\n" in page
    assert "| FP/scan | from probability | sensitivity |\n|---|---|---|\n| 0.125 | 0.9000 | 0.500 |" in page


def test_markdown_keeps_bars_and_stars_as_they_are() -> None:
    page = as_markdown("a", [Section("b", ("2 * 3",), ("x | y",), (("1 * 2",),))])
    assert page == "# a\n\n## b\n\n2 \\* 3\n\n| x \\| y |\n|---|\n| 1 \\* 2 |\n"


def test_figures_are_put_into_the_card_and_the_rest_stays(
    luna_card: Card, weights: Path, benchmark: BenchmarkReport, tmp_path: Path
) -> None:
    before, content = load_card(weights), weights.read_bytes()
    (tmp_path / "b.json").write_text(benchmark.to_json(), encoding="utf-8")
    told = luna_card(weights, "--add", tmp_path / "b.json", "--known-failure", "scars")
    after = load_card(weights)
    assert (after.figures[0].name, after.known_failures[-1]) == ("CPM", "scars")
    changed = {"figures": after.figures, "known_failures": after.known_failures}
    assert before.model_copy(update=changed) == after
    assert weights.read_bytes() == content
    assert "[0.600, 0.800]" in told
    assert "- diameter 3-6 mm: 11 of 20 nodules found at 4 FP/scan, 0.55 [0.34, 0.74]; of all 0.75\n" in told


def test_a_bad_file_leaves_the_card_as_it_was(
    luna_card: Card, weights: Path, benchmark: BenchmarkReport, tmp_path: Path
) -> None:
    before = card_path(weights).read_bytes()
    (tmp_path / "b.json").write_text(benchmark.to_json(), encoding="utf-8")
    luna_card(weights, "--add", tmp_path / "b.json", "--add", tmp_path / "absent.json", fails=True)
    assert card_path(weights).read_bytes() == before


def test_a_card_of_other_weights_is_refused(luna_card: Card, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "its card says" in luna_card(weights, fails=True)


def test_an_unknown_model_names_the_words(luna_card: Card, tmp_path: Path) -> None:
    told = luna_card(tmp_path / "nothing", fails=True)
    assert "a run's folder, or one of the words segmentation, nodule, malignancy" in told


@pytest.mark.parametrize("name", ["segmentation", "nodule"])
def test_the_bundled_models_have_cards(luna_card: Card, name: str) -> None:
    page = luna_card(name, "--markdown")
    assert page.startswith(f"# The bundled {name} network\n")
    assert "LIDC-IDRI" in page
    assert "CC BY 3.0" in page
