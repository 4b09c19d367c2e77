"""Configs read, changed from the command line, written and compared."""

from pathlib import Path

import pytest

from p2ch_luna.config import as_toml, difference, load_config
from p2ch_luna.errors import LunaError


def test_an_override_is_a_number_where_it_reads_as_one(smoke: Path) -> None:
    assert load_config(smoke, ["optim.lr=3e-4"]).optim.lr == 3e-4


def test_an_override_is_a_word_otherwise(smoke: Path) -> None:
    assert load_config(smoke, ["data.lidc=/some/where"]).data.lidc == "/some/where"


def test_an_override_of_nothing_is_an_empty_text(smoke: Path) -> None:
    assert load_config(smoke, ["data.lidc="]).data.lidc == ""


def test_the_last_override_of_a_key_counts(smoke: Path) -> None:
    assert load_config(smoke, ["loop.epochs=3", "loop.epochs=4"]).loop.epochs == 4


def test_an_override_without_a_value_is_refused(smoke: Path) -> None:
    with pytest.raises(LunaError, match=r"--set optim.lr: no '='; wanted table.key=value"):
        load_config(smoke, ["optim.lr"])


def test_an_override_below_a_value_is_refused(smoke: Path) -> None:
    with pytest.raises(LunaError, match=r"--set seed.x=1: seed is not a table"):
        load_config(smoke, ["seed.x=1"])


def test_an_override_of_an_unknown_table_is_refused(smoke: Path) -> None:
    with pytest.raises(LunaError, match=r"unknown key loops; near are loop, loss"):
        load_config(smoke, ["loops.epochs=1"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"none.toml: No such file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"a = = 1", b"a = '\xff'"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(LunaError, match=r"bad.toml: not TOML"):
        load_config(tmp_path / "bad.toml")


def test_what_was_set_is_written(smoke: Path, tmp_path: Path) -> None:
    config = load_config(smoke, ["optim.lr=1e-7", 'data.credits=["Zoë", "a \\"b\\""]'])
    (tmp_path / "written.toml").write_text(as_toml(config), encoding="utf-8")
    assert load_config(tmp_path / "written.toml") == config


def test_a_config_does_not_differ_from_itself(smoke: Path) -> None:
    assert difference(load_config(smoke), load_config(smoke)) is None


def test_the_first_key_that_differs_is_told(smoke: Path) -> None:
    changed = load_config(smoke, ["loop.epochs=9", "optim.lr=1e-3"])
    assert difference(changed, load_config(smoke)) == "optim.lr is 0.001, not 0.003"


def test_a_list_that_differs_is_told(smoke: Path) -> None:
    changed = load_config(smoke, ["data.train_folds=[0, 1]"])
    assert difference(changed, load_config(smoke)) == "data.train_folds is [0, 1], not [0]"


def test_of_two_tasks_the_task_is_told(smoke: Path, nodule: Path) -> None:
    assert difference(load_config(nodule), load_config(smoke)) == "task is 'nodule', not 'segmentation'"
