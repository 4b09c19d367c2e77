"""A whole run: which tables each task has, and which of their values go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from p2ch_luna.config.tables import (
    AugmentationConfig,
    ClassifierConfig,
    ClassifierLoss,
    ClassifierSampling,
    ClassifierValidation,
    ComputeConfig,
    DataConfig,
    ImplantsConfig,
    LoopConfig,
    MalignancyLoss,
    MalignancyModel,
    ModelConfig,
    OptimConfig,
    SamplingConfig,
    SegmentationLoss,
    StartConfig,
    Table,
    UnetConfig,
    ValidationConfig,
)

BEST_BY: Mapping[str, Sequence[str]] = {  # metrics that may pick the best epoch: higher is better
    "segmentation": ("sensitivity", "dice", "f1", "cpm"),
    "nodule": ("nodule_auc", "sensitivity_at_5_percent_fp", "f1", "cpm"),
    "malignancy": ("malignancy_auc",),
}


class RunConfig(Table):
    """What every run has; a task's own class says more of its tables."""

    task: Literal["segmentation", "nodule", "malignancy"]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]  # NumPy takes no other
    data: DataConfig
    sampling: SamplingConfig
    model: ModelConfig
    start: StartConfig
    implants: ImplantsConfig
    augmentation: AugmentationConfig
    optim: OptimConfig
    loop: LoopConfig
    compute: ComputeConfig
    validation: ValidationConfig
    loss: SegmentationLoss | ClassifierLoss

    @model_validator(mode="after")
    def _is_judged(self) -> RunConfig:
        best_by, known = self.loop.best_by, BEST_BY[self.task]
        if best_by not in known:
            raise ValueError(f"loop.best_by = {best_by!r}: task {self.task!r} wants {' or '.join(known)}")
        if best_by == "cpm" and not self.validation.scans:
            raise ValueError("loop.best_by = 'cpm' with validation.scans = 0; wanted scans")
        return self

    @model_validator(mode="after")
    def _warms_up(self) -> RunConfig:
        steps = self.loop.epochs * self.loop.steps_per_epoch
        if self.optim.warmup_steps >= steps:
            raise ValueError(
                f"optim.warmup_steps = {self.optim.warmup_steps}: the run has {steps} steps, "
                "loop.epochs x loop.steps_per_epoch; wanted fewer"
            )
        return self


class SegmentationRun(RunConfig):
    """Which voxels are nodule."""

    task: Literal["segmentation"]
    model: UnetConfig
    loss: SegmentationLoss


class ClassifierRun(RunConfig):
    """A run of the classifier of crops."""

    sampling: ClassifierSampling
    model: ClassifierConfig
    loss: ClassifierLoss

    @model_validator(mode="after")
    def _has_heads(self) -> ClassifierRun:
        if self.loss.diameter and not self.model.diameter_head:
            raise ValueError(
                f"loss.diameter = {self.loss.diameter:g} with model.diameter_head = false; "
                "wanted the head, or a weight of 0"
            )
        return self


class NoduleRun(ClassifierRun):
    """Which candidates are nodules."""

    task: Literal["nodule"]
    validation: ClassifierValidation


class MalignancyRun(ClassifierRun):
    """Which nodules are malignant."""

    task: Literal["malignancy"]
    model: MalignancyModel
    loss: MalignancyLoss

    @model_validator(mode="after")
    def _has_outline(self) -> MalignancyRun:
        if self.loss.outline and not self.model.outline:
            raise ValueError(
                f"loss.outline = {self.loss.outline:g} with model.outline = false; "
                "wanted an outline, or a weight of 0"
            )
        return self

    @model_validator(mode="after")
    def _has_no_scans(self) -> MalignancyRun:
        if self.validation.scans:
            raise ValueError(
                f"validation.scans = {self.validation.scans}: task 'malignancy' wants 0: its network forgets "
                "what is no nodule, so it cannot search whole scans"
            )
        return self


RUNS: Mapping[str, type[RunConfig]] = {
    "segmentation": SegmentationRun,
    "nodule": NoduleRun,
    "malignancy": MalignancyRun,
}
