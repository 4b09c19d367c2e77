"""The configs that are handed out with the package."""

from pathlib import Path

import pytest

from p2ch_luna.config import NoduleRun, as_toml, load_config
from p2ch_luna.config.runs import MalignancyRun

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)


def test_there_is_one_for_every_task_and_for_a_gpu() -> None:
    wanted = {"smoke", "luna16"}
    for task in ("segmentation", "nodule", "malignancy"):
        wanted |= {task, f"{task}-gpu"}
    assert {path.stem for path in CONFIGS} == wanted | {"segmentation-second"}


@every_config
def test_its_task_is_its_name(path: Path) -> None:
    task = path.stem.removesuffix("-gpu").removesuffix("-second")
    assert load_config(path).task == {"smoke": "segmentation", "luna16": "segmentation"}.get(task, task)


@every_config
def test_what_is_written_of_it_reads_as_the_same(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "written.toml").write_text(as_toml(config), encoding="utf-8")
    assert load_config(tmp_path / "written.toml") == config


@every_config
def test_its_tables_are_in_the_order_of_the_model(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    tables = [line[1:].partition("]")[0] for line in lines if line.startswith("[")]
    fields = list(type(load_config(path)).model_fields)
    assert ["task", "seed", *tables] == fields


@every_config
def test_bundled_networks_do_not_train_on_the_test_third(path: Path) -> None:
    data = load_config(path).data
    assert data.luna16 or not {7, 8, 9} & {*data.train_folds, *data.validation_folds}


def test_nothing_bundled_proposes_in_luna16() -> None:
    """It trained on patients of LUNA16, whatever their subset."""
    own = [load_config(path) for path in CONFIGS if load_config(path).data.luna16]
    proposers = [config.validation.segmentation for config in own if isinstance(config, NoduleRun)]
    assert proposers
    assert all(proposers)


@pytest.mark.parametrize("suffix", ["", "-gpu"])
def test_malignancy_measures_what_it_outlines_and_takes_over_nobody(suffix: str) -> None:
    config = load_config(ROOT / "configs" / f"malignancy{suffix}.toml")
    assert isinstance(config, MalignancyRun)
    assert config.model.outline
    assert config.loss.outline > 0
    assert not config.start.init_from


@pytest.mark.parametrize("suffix", ["", "-gpu"])
def test_nothing_makes_another_size_of_a_nodule_whose_malignancy_is_learnt(suffix: str) -> None:
    config = load_config(ROOT / "configs" / f"malignancy{suffix}.toml")
    assert config.augmentation.scale == 0
    assert config.implants.zoom <= 1.05


def test_the_second_round_goes_on_with_the_network_and_the_patients_of_the_first() -> None:
    first, second = (
        load_config(ROOT / "configs" / f"segmentation{suffix}.toml") for suffix in ("", "-second")
    )
    assert first.model == second.model
    assert first.data.train_folds == second.data.train_folds
