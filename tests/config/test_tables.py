"""Values of one table."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from p2ch_luna.config import load_config
from p2ch_luna.errors import LunaError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed = -1: wanted a whole number from 0 to 4294967295"),
        ("seed=4294967296", "seed = 4294967296: wanted a whole number from 0 to 4294967295"),
        ("data.train_folds=[10]", "data.train_folds = [10]: wanted a list of folds, 0 to 9"),
        ("data.train_folds=0", "data.train_folds = 0: wanted a list of folds, 0 to 9"),
        ("data.scans=x", "data.scans = 'x': wanted a list of texts, or []"),
        ("data.lidc=3", "data.lidc = 3: wanted a text"),
        ("data.shape_irc=[32, 40, 40]", "data.shape_irc = [32, 40, 40]: wanted 3 multiples of 16, as many"),
        ("data.shape_irc=[32, 48, 32]", "data.shape_irc = [32, 48, 32]: wanted 3 multiples of 16, as many"),
        ("data.shape_irc=[0, 32, 32]", "data.shape_irc = [0, 32, 32]: wanted 3 multiples of 16, as many"),
        ("sampling.lung=1.5", "sampling.lung = 1.5: wanted a number from 0 to 1"),
        ("model.window_hu=[400, -1000]", "model.window_hu = [400, -1000]: wanted two numbers, low < high"),
        ("model.window_hu=[-inf, 400]", "model.window_hu = [-inf, 400]: wanted two numbers, low < high"),
        ("model.widths=[]", "model.widths = []: wanted 2 to 4 whole numbers above 0"),
        (
            "model.widths=[8, 8, 8, 8, 8]",
            "model.widths = [8, 8, 8, 8, 8]: wanted 2 to 4 whole numbers above 0",
        ),
        ("augmentation.elastic_mm=5", "augmentation.elastic_mm = 5: wanted a number from 0 to 4"),
        ("optim.lr=-1", "optim.lr = -1: wanted a number above 0"),
        ("optim.lr=inf", "optim.lr = inf: wanted a number above 0"),
        ("optim.lr=true", "optim.lr = true: wanted a number above 0"),
        ("optim.weight_decay=nan", "optim.weight_decay = nan: wanted a number of at least 0"),
        ("optim.ema=1", "optim.ema = 1: wanted a number of at least 0 and below 1"),
        ("optim.ema=-0.1", "optim.ema = -0.1: wanted a number of at least 0 and below 1"),
        ("loop.epochs=many", "loop.epochs = 'many': wanted a whole number of at least 1"),
        ("loop.epochs=2.0", "loop.epochs = 2.0: wanted a whole number of at least 1"),
        ("loop.epochs='3'", "loop.epochs = '3': wanted a whole number of at least 1"),
        ("loop.accumulate=0", "loop.accumulate = 0: wanted a whole number of at least 1"),
        ("compute.compile=1", "compute.compile = 1: wanted true or false"),
        ("compute.precision=fp8", "compute.precision = 'fp8': wanted 'auto' or 'bf16' or 'fp16' or 'fp32'"),
        ("validation.samples=0", "validation.samples = 0: wanted a whole number of at least 1"),
        ("loss.dice=-1", "loss.dice = -1: wanted a number of at least 0"),
        ("loss.hard_share=0", "loss.hard_share = 0: wanted a number above 0 and of at most 1"),
        ("loss.false_negatives=0", "loss.false_negatives = 0: wanted a number above 0"),
    ],
)
def test_an_impossible_value_is_told_with_what_was_wanted(smoke: Path, override: str, message: str) -> None:
    with pytest.raises(LunaError) as told:
        load_config(smoke, [override])
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train_folds=[0, 6]"], "fold 6 is in train_folds and in validation_folds; wanted one"),
        (
            ["sampling.implants=0", "sampling.lung=0"],
            "sampling: nodules, candidates, lung, implants, cubes are all 0; wanted one above",
        ),
        (["loss.focal=0", "loss.dice=0"], "loss: focal, bce, dice are all 0; wanted one above"),
        (["loop.accumulate=3"], "loop.accumulate = 3: wanted a divisor of loop.batch_size, 4"),
        (["start.new=['head']"], "start.new = ['head'] without start.init_from; wanted a model"),
        (["start.frozen=['stem']"], "start.frozen = ['stem'] without start.init_from; wanted a model"),
        (
            ["start.init_from=a", "start.new=['head']", "start.frozen=['head']"],
            "start.new has 'head' and start.frozen 'head'; wanted a new part to learn",
        ),
        (
            ["start.init_from=a", "start.new=['down.1']", "start.frozen=['down']"],
            "start.new has 'down.1' and start.frozen 'down'; wanted a new part to learn",
        ),
        (
            ["start.init_from=a", "start.new=['down']", "start.frozen=['down.1']"],
            "start.new has 'down' and start.frozen 'down.1'; wanted a new part to learn",
        ),
    ],
)
def test_values_of_a_table_that_do_not_go_together_are_told(
    smoke: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(LunaError) as told:
        load_config(smoke, overrides)
    assert str(told.value) == f"{smoke}: {message}"


def test_parts_whose_names_begin_alike_are_different_parts(smoke: Path) -> None:
    start = ["start.init_from=a", "start.new=['down.1']", "start.frozen=['down.10']"]
    assert load_config(smoke, start).start.frozen == ("down.10",)


def test_a_classifier_weight_above_0_is_enough(nodule: Path) -> None:
    loss = load_config(nodule, ["loss.nodule=0", "loss.diameter=0", "loss.malignancy=0.3"]).loss
    assert loss.model_dump()["malignancy"] == 0.3


def test_a_classifier_without_any_weight_is_refused(nodule: Path) -> None:
    with pytest.raises(LunaError, match=r"loss: nodule, malignancy, diameter are all 0; wanted one above$"):
        load_config(nodule, ["loss.nodule=0", "loss.malignancy=0", "loss.diameter=0"])


def test_a_whole_number_is_a_number(smoke: Path) -> None:
    assert load_config(smoke, ["optim.lr=1"]).optim.lr == 1.0


def test_a_config_is_frozen(smoke: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(smoke).optim.lr = 1.0  # type: ignore[misc]


def test_the_sources_of_data_are_paths(smoke: Path) -> None:
    sources = load_config(smoke, ["data.cubes=some/where"]).data.sources()
    assert (sources["cubes"], sources["hosts"]) == (
        Path("some/where"),
        [Path("../shared/data/ct/lungfcp-01-0001.mha")],
    )


def test_a_source_without_a_name_is_none(smoke: Path) -> None:
    assert load_config(smoke).data.sources()["luna16"] is None
