from pathlib import Path

import pytest

from p2ch_luna.config import load_config
from p2ch_luna.errors import LunaError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
SMOKE = Path(__file__).parents[1] / "configs" / "smoke.toml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_committed_configs_are_complete(path: Path) -> None:
    assert load_config(path).task in ("segmentation", "nodule")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_no_config_of_the_bundled_networks_trains_on_the_test_third(path: Path) -> None:
    data = load_config(path).data
    assert data.luna16 or not {7, 8, 9} & {*data.train_folds, *data.validation_folds}


def test_an_override_is_a_number_where_it_reads_as_one() -> None:
    assert load_config(SMOKE, ["optim.lr=3e-4"]).optim.lr == 3e-4


def test_an_override_is_a_word_otherwise() -> None:
    assert load_config(SMOKE, ["data.lidc=/some/where"]).data.lidc == "/some/where"


def test_an_unknown_key_names_those_near_it() -> None:
    with pytest.raises(
        LunaError, match=r"smoke.toml: unknown key optim.learning_rate; known: lr, weight_decay"
    ):
        load_config(SMOKE, ["optim.learning_rate=1"])


def test_a_misspelt_key_names_the_right_one() -> None:
    with pytest.raises(LunaError, match=r"unknown key loop.epoch; near are epochs"):
        load_config(SMOKE, ["loop.epoch=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=-1", r"optim.lr = -1: Input should be greater than 0"),
        ("loop.epochs=many", r"loop.epochs = 'many': .*integer"),
        ("data.train_folds=[0, 6]", r"fold 6 is in train_folds and in validation_folds"),
        ("data.shape_irc=[32, 40, 40]", r"shape_irc needs multiples of 16"),
        ("task=detection", r"task = 'detection'"),
        ("task=nodule", r"model.name = 'segmentation_unet': task 'nodule' wants 'nodule_classifier'"),
        ("model.name=nodule_classifier", r"model.name = .*: task 'segmentation' wants 'segmentation_unet'"),
        ("model.window_hu=[400, -1000]", r"model.window_hu = \[400, -1000\]: wanted low < high"),
        ("model.window_hu=[-inf, 400]", r"model.window_hu.0 = -inf: .*finite"),
        ("model.widths=[]", r"model.widths = \[\]: .*at least 2"),
        ("model.widths=[8, 8, 8, 8, 8]", r"model.widths = .*at most 4"),
        ("loss={}", r"loss.dice is missing: task 'segmentation' wants dice, focal"),
        ("loss.foo=1", r"loss.foo is unknown: task 'segmentation' wants dice, focal"),
        ("loss.dice=inf", r"loss.dice = inf: .*finite"),
        ("sampling={}", r"sampling.candidates is missing: task 'segmentation' wants candidates, cubes, imp"),
        ("sampling.vessels=1", r"sampling.vessels is unknown: task 'segmentation' wants"),
        ("sampling.lung=1.5", r"sampling.lung = 1.5: Input should be less than or equal to 1"),
        ("seed=-1", r"seed = -1: Input should be greater than or equal to 0"),
        ("seed=4294967296", r"seed = 4294967296: Input should be less than 4294967296"),
        ("optim.lr=inf", r"optim.lr = inf: .*finite"),
        ("optim.weight_decay=nan", r"optim.weight_decay = nan: .*"),
    ],
)
def test_an_impossible_value_is_named(override: str, message: str) -> None:
    with pytest.raises(LunaError, match=message):
        load_config(SMOKE, [override])


def test_what_is_wrong_in_a_table_is_told_without_the_table() -> None:
    with pytest.raises(LunaError, match=r"smoke.toml: fold 6 is in train_folds and in validation_folds$"):
        load_config(SMOKE, ["data.train_folds=[0, 6]"])


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(LunaError, match=r"--set optim.lr: no '='; wanted table.key=value"):
        load_config(SMOKE, ["optim.lr"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"none.toml: No such file"):
        load_config(tmp_path / "none.toml")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(LunaError, match=r"bad.toml: not TOML"):
        load_config(tmp_path / "bad.toml")


def test_shares_that_are_all_0_are_refused() -> None:
    with pytest.raises(LunaError, match=r"sampling: all shares are 0; wanted one above$"):
        load_config(SMOKE, ["sampling.implants=0", "sampling.lung=0"])
