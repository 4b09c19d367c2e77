"""Which networks count as made alike, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from p2ch_luna.report.malignancy.recipe import other_tables, recipe_of, warnings_of
from p2ch_luna.report.malignancy.schema import Judge

CONFIG: dict[str, Any] = {
    "task": "malignancy",
    "seed": 0,
    "data": {"lidc": "a/lidc", "hosts": ["a/x.mha"], "train_folds": [0], "validation_folds": [1]},
    "start": {"init_from": "runs/first", "new": ["outline"]},
    "loop": {"epochs": 1, "workers": 1},
    "compute": {"precision": "auto"},
    "loss": {"malignancy": 1.0},
}


def others(table: str, **changed: object) -> list[str]:
    """The tables that count as others if this one is changed so."""
    return other_tables(recipe_of({**CONFIG, table: {**CONFIG[table], **changed}}), recipe_of(CONFIG))


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ("data", {"train_folds": [2, 3], "validation_folds": [4]}),
        ("data", {"lidc": "elsewhere/lidc", "hosts": ["b/x.mha"]}),
        ("start", {"init_from": "runs/second"}),
        ("loop", {"workers": 8}),
        ("compute", {"precision": "bf16"}),
    ],
)
def test_folds_folders_and_speed_do_not_count(table: str, changed: dict[str, object]) -> None:
    assert others(table, **changed) == []


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ("data", {"hosts": ["a/y.mha"]}),
        ("start", {"init_from": ""}),
        ("start", {"new": []}),
        ("loop", {"epochs": 2}),
        ("loss", {"malignancy": 0.5}),
    ],
)
def test_what_a_network_learns_from_and_how_counts(table: str, changed: dict[str, object]) -> None:
    assert others(table, **changed) == [table]


def test_a_table_that_one_does_not_have_counts() -> None:
    assert other_tables({"loss": "a"}, {"loss": "a", "optim": "b"}) == ["optim"]


def judge(epochs: int | None = 1, seen: tuple[str, ...] = (), recipe: str = "a") -> Judge:
    return Judge(
        run="fold", weights_sha256="ab", folds=(0,), hosts=("1.2.3", "1.2.4"), seen_hosts=seen, epochs=epochs,
        recipe={"loss": recipe}, nodules=9, temperature=None,
    )  # fmt: skip


def test_networks_that_saw_nothing_and_were_not_picked_have_no_warning() -> None:
    assert warnings_of([judge(), judge(None)]) == ()


def test_an_epoch_that_was_picked_by_the_judged_is_told() -> None:
    (told,) = warnings_of([judge(30), judge(1)])
    assert told.startswith("1 of 2 network(s) kept one of several epochs by the nodules that they judge")


def test_hosts_that_taught_a_network_are_told() -> None:
    (told,) = warnings_of([judge(), judge(seen=("1.2.4",)), judge(seen=("1.2.4",))])
    assert told.startswith("2 of 3 network(s) trained on scans that the nodules are set into (1.2.4)")


def test_networks_of_several_recipes_are_told() -> None:
    assert warnings_of([judge(), judge(recipe="b")]) == (
        "the networks are not made alike: their configs differ in loss",
    )
