"""Which tables a task has, and values of several tables that go together."""

from pathlib import Path

import pytest

from p2ch_luna.config import BEST_BY, MalignancyRun, NoduleRun, SegmentationRun, load_config
from p2ch_luna.errors import LunaError


def told_of(path: Path, *overrides: str) -> str:
    with pytest.raises(LunaError) as told:
        load_config(path, overrides)
    return str(told.value).removeprefix(f"{path}: ")


def test_the_task_chooses_the_model(smoke: Path, nodule: Path, malignancy: Path) -> None:
    found = [type(load_config(path)) for path in (smoke, nodule, malignancy)]
    assert found == [SegmentationRun, NoduleRun, MalignancyRun]


def test_an_unknown_task_is_told_with_those_there_are(smoke: Path) -> None:
    wanted = "wanted 'segmentation' or 'nodule' or 'malignancy'"
    assert told_of(smoke, "task=detection") == f"task = 'detection': {wanted}"
    assert told_of(smoke, "task=[1]") == f"task = [1]: {wanted}"


def test_a_strange_key_or_two_are_told_by_the_first(smoke: Path, nodule: Path) -> None:
    assert told_of(smoke, "sampling.vessels=1").startswith("unknown key sampling.vessels; ")
    assert told_of(nodule, "model.depth=1").startswith("unknown key model.depth; ")


def test_a_config_of_another_task_is_told_as_such(smoke: Path, nodule: Path) -> None:
    assert told_of(smoke, "task=nodule") == (
        "task = 'nodule', but [sampling], [model], [loss] are those of 'segmentation'; "
        "wanted tables of the task"
    )
    assert "are those of 'nodule'; wanted" in told_of(nodule, "task=segmentation")


def test_a_network_of_another_task_is_refused(smoke: Path) -> None:
    assert told_of(smoke, "model.name=nodule_classifier") == (
        "model.name = 'nodule_classifier': wanted 'segmentation_unet'"
    )


def test_only_a_nodule_run_says_who_proposes(smoke: Path, nodule: Path, malignancy: Path) -> None:
    for other in (smoke, malignancy):
        assert "unknown key validation.segmentation" in told_of(other, "validation.segmentation=a")
    assert load_config(nodule, ["validation.segmentation=a"]).validation.model_dump()["segmentation"] == "a"


@pytest.mark.parametrize("task", BEST_BY)
def test_every_metric_of_a_task_may_pick_the_best_epoch(
    task: str, smoke: Path, nodule: Path, malignancy: Path
) -> None:
    path = {"segmentation": smoke, "nodule": nodule, "malignancy": malignancy}[task]
    for metric in BEST_BY[task]:
        assert load_config(path, [f"loop.best_by={metric}"]).loop.best_by == metric


def test_a_metric_of_another_task_does_not_pick_the_best_epoch(smoke: Path) -> None:
    assert told_of(smoke, "loop.best_by=nodule_auc") == (
        "loop.best_by = 'nodule_auc': task 'segmentation' wants sensitivity or dice or f1 or cpm"
    )


def test_a_metric_that_is_better_low_does_not_pick_the_best_epoch(malignancy: Path) -> None:
    assert told_of(malignancy, "loop.best_by=malignancy_brier") == (
        "loop.best_by = 'malignancy_brier': task 'malignancy' wants malignancy_auc"
    )


def test_cpm_needs_whole_scans(smoke: Path) -> None:
    assert told_of(smoke, "loop.best_by=cpm", "validation.scans=0") == (
        "loop.best_by = 'cpm' with validation.scans = 0; wanted scans"
    )


def test_malignancy_searches_no_whole_scans(malignancy: Path) -> None:
    assert told_of(malignancy, "validation.scans=1") == (
        "validation.scans = 1: task 'malignancy' wants 0: "
        "its network forgets what is no nodule, so it cannot search whole scans"
    )


def test_an_outline_is_learnt_only_by_a_network_that_has_one(malignancy: Path) -> None:
    assert told_of(malignancy, "model.outline=false") == (
        "loss.outline = 1 with model.outline = false; wanted an outline, or a weight of 0"
    )
    assert not load_config(malignancy, ["model.outline=false", "loss.outline=0"]).model.model_dump()[
        "outline"
    ]


def test_the_warm_up_ends_before_the_run(smoke: Path) -> None:
    steps = ["loop.epochs=2", "loop.steps_per_epoch=5"]
    assert load_config(smoke, [*steps, "optim.warmup_steps=9"]).optim.warmup_steps == 9
    assert told_of(smoke, *steps, "optim.warmup_steps=10") == (
        "optim.warmup_steps = 10: the run has 10 steps, loop.epochs x loop.steps_per_epoch; wanted fewer"
    )


def test_a_diameter_is_learnt_only_with_a_head(nodule: Path) -> None:
    assert told_of(nodule, "model.diameter_head=false") == (
        "loss.diameter = 0.1 with model.diameter_head = false; wanted the head, or a weight of 0"
    )


def test_a_diameter_head_may_be_left_untrained(nodule: Path) -> None:
    assert load_config(nodule, ["loss.diameter=0"]).model.model_dump()["diameter_head"]
