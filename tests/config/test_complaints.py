"""What is said of keys: the unknown, the missing, the tables."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.config import check_config
from p2ch_luna.config.complaints import shown
from p2ch_luna.errors import LunaError


@pytest.fixture
def tables(smoke: Path) -> dict[str, Any]:
    return tomllib.loads(smoke.read_text(encoding="utf-8"))


def told_of(tables: dict[str, Any]) -> str:
    with pytest.raises(LunaError) as told:
        check_config(tables, "a.toml")
    return str(told.value)


def test_a_misspelt_key_names_the_right_one(tables: dict[str, Any]) -> None:
    tables["loop"]["epoch"] = 1
    assert told_of(tables) == "a.toml: unknown key loop.epoch; near is epochs"


def test_a_misspelt_key_is_told_before_the_one_that_is_missing_for_it(tables: dict[str, Any]) -> None:
    tables["loop"]["epoch"] = tables["loop"].pop("epochs")
    assert told_of(tables) == "a.toml: unknown key loop.epoch; near is epochs"


def test_a_key_like_none_is_told_with_those_of_its_table(tables: dict[str, Any]) -> None:
    tables["optim"]["gamma_ray"] = 1
    assert told_of(tables) == (
        "a.toml: unknown key optim.gamma_ray; known: lr, weight_decay, warmup_steps, clip_norm, ema"
    )


def test_a_key_of_another_table_names_its_place(tables: dict[str, Any]) -> None:
    tables["loop"]["lr"] = 1
    assert told_of(tables) == "a.toml: unknown key loop.lr; near is optim.lr"


def test_a_key_outside_its_table_names_its_place(tables: dict[str, Any]) -> None:
    tables["epochs"] = 1
    assert told_of(tables) == "a.toml: unknown key epochs; near is loop.epochs"


def test_a_misspelt_table_names_the_right_one(tables: dict[str, Any]) -> None:
    tables["optimm"] = tables.pop("optim")
    assert told_of(tables) == "a.toml: unknown key optimm; near is optim"


@pytest.mark.parametrize(
    ("table", "key", "wanted"),
    [
        ("loop", "workers", "a whole number of at least 0"),
        ("data", "lidc", "a text"),
        ("compute", "compile", "true or false"),
        ("data", "hosts", "a list of texts, or []"),
    ],
)
def test_a_missing_key_is_told_alone(tables: dict[str, Any], table: str, key: str, wanted: str) -> None:
    del tables[table][key]
    assert told_of(tables) == f"a.toml: {table}.{key} is missing; wanted {wanted}"


def test_a_missing_table_is_told_with_its_keys(tables: dict[str, Any]) -> None:
    del tables["start"]
    assert told_of(tables) == "a.toml: start is missing; wanted a table with init_from, new, frozen"


def test_a_value_in_the_place_of_a_table_is_told(tables: dict[str, Any]) -> None:
    tables["start"] = 3
    assert told_of(tables) == "a.toml: start = 3: wanted a table with init_from, new, frozen"


def test_a_missing_task_is_told_first() -> None:
    assert told_of({}) == "a.toml: task is missing; wanted 'segmentation' or 'nodule' or 'malignancy'"


def test_the_list_is_shown_where_one_of_its_values_is_wrong(tables: dict[str, Any]) -> None:
    tables["data"]["train_folds"] = [0, "one"]
    assert told_of(tables) == "a.toml: data.train_folds = [0, 'one']: wanted a list of folds, 0 to 9"


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (1e-4, "0.0001"), ("a", "'a'"), ([1], "[1]")])
def test_a_value_is_shown_as_it_is_written(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_list_that_is_too_short_is_there(tables: dict[str, Any]) -> None:
    tables["data"]["shape_irc"] = [32, 32]
    assert told_of(tables).startswith("a.toml: data.shape_irc = [32, 32]: wanted 3 multiples of 16")


def test_a_whole_number_with_a_point_is_told_without(tables: dict[str, Any]) -> None:
    tables["loop"]["epochs"] = 1e1
    assert told_of(tables) == "a.toml: loop.epochs = 10.0: wanted a whole number of at least 1, as 10"


@pytest.mark.parametrize("value", [-3.0, 2.5, float("inf")])
def test_a_number_that_would_not_do_either_is_no_example(tables: dict[str, Any], value: float) -> None:
    tables["loop"]["epochs"] = value
    assert told_of(tables) == f"a.toml: loop.epochs = {value}: wanted a whole number of at least 1"


def test_a_long_value_is_cut(tables: dict[str, Any]) -> None:
    tables["optim"]["lr"] = "x" * 1000
    assert told_of(tables) == f"a.toml: optim.lr = '{'x' * 58}…: wanted a number above 0"
