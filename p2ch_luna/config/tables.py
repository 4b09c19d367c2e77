"""The tables of a run's config: strict, frozen and complete; no key has a default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# A description is what a user reads after "wanted"; of plain numbers and words `complaints` makes it.
Fold = Annotated[int, Field(ge=0, le=9)]
Folds = Annotated[tuple[Fold, ...], Field(strict=False, description="a list of folds, 0 to 9")]
Texts = Annotated[tuple[str, ...], Field(strict=False, description="a list of texts, or []")]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]  # of things that there may be none of


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError(window)
    return window


def _tiled(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if any(n % 16 for n in shape) or shape[1] != shape[2]:
        raise ValueError(shape)
    return shape


def _check_some(table: str, **numbers: float) -> None:
    if not any(numbers.values()):
        raise ValueError(f"{table}: {', '.join(numbers)} are all 0; wanted one above")


Window = Annotated[
    tuple[float, float],
    Field(strict=False, description="two numbers, low < high"),
    AfterValidator(_rising),
]
Shape = Annotated[
    tuple[Count, Count, Count],
    Field(strict=False, description="3 multiples of 16, as many rows as columns"),
    AfterValidator(_tiled),
]
Widths = Annotated[
    tuple[Count, ...],  # each halves the grid; tiles: 16
    Field(strict=False, min_length=2, max_length=4, description="2 to 4 whole numbers above 0"),
]


NearWidths = Annotated[
    tuple[Count, ...],
    Field(strict=False, max_length=4, description="up to 4 whole numbers above 0, or []"),
]


class Table(BaseModel):
    """One table of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Table):
    """Where data come from and who may train on them. Paths count from the current folder."""

    luna16: str  # LUNA16's folder: subsets and lists, found in it; "" for none
    scans: Texts  # other annotated scans: files, or folders of them
    annotations: str  # their nodules, LUNA16 columns; "" for none
    excluded: str  # findings of scans and hosts to learn nothing from, LUNA16 columns; "" for none
    candidates: Texts  # places that are nodules or none, as `luna mine` writes them
    lidc: str  # folder of nodules.csv and voi/: nodules to implant; "": the scans' own
    cubes: str  # folder of LIDC cubes; "" for none
    cube_patients: str  # table of the patients that a cube may be of; needed with cubes
    hosts: Texts  # scans to implant into in training, whose own nodules are not known
    validation_hosts: Texts  # the same for validation
    credits: Texts  # what all this is and its licences, for the model's card
    train_folds: Folds
    validation_folds: Folds
    shape_irc: Shape  # voxels of 1 mm

    @model_validator(mode="after")
    def _sides(self) -> DataConfig:
        if shared := set(self.train_folds) & set(self.validation_folds):
            raise ValueError(f"fold {min(shared)} is in train_folds and in validation_folds; wanted one")
        return self

    def sources(self) -> dict[str, Any]:
        """The arguments of `datasets.collection.Sources`: paths, and None for an empty text."""
        one = ("luna16", "annotations", "excluded", "lidc", "cubes", "cube_patients")
        many = ("scans", "candidates", "hosts", "validation_hosts")
        return {key: Path(text) if (text := getattr(self, key)) else None for key in one} | {
            key: [Path(text) for text in getattr(self, key)] for key in many
        }


class SamplingConfig(Table):
    """Shares of the samples by source, see `training.tasks`; their sum counts as 1."""

    nodules: Share
    candidates: Share
    lung: Share
    implants: Share
    cubes: Share

    @model_validator(mode="after")
    def _some(self) -> SamplingConfig:
        _check_some("sampling", **self.model_dump())
        return self


class ClassifierSampling(SamplingConfig):
    """A classifier also sees what only it tells apart."""

    found_nodules: Share
    vessels: Share


class ModelConfig(Table):
    """A network: a name of `models.build.BUILDERS` and what it is built with."""

    name: str
    widths: Widths
    window_hu: Window


class UnetConfig(ModelConfig):
    """See `models.unet.SegmentationUNet`."""

    name: Literal["segmentation_unet"]


class ClassifierConfig(ModelConfig):
    """See `models.classifier.NoduleClassifier`."""

    name: Literal["nodule_classifier"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    diameter_head: bool
    near_widths: NearWidths


class MalignancyModel(ClassifierConfig):
    """One that may outline the nodule too, and judge by what it measures of that."""

    outline: bool


class StartConfig(Table):
    """What the weights are before the first step. Parts are named as in the network: "heads.nodule"."""

    init_from: str  # a model file of the same network, or a run's folder; "": fresh weights
    new: Texts  # parts that begin anew even so
    frozen: Texts  # parts that stay as they are

    @model_validator(mode="after")
    def _has_meaning(self) -> StartConfig:
        for key in ("new", "frozen"):
            if (parts := getattr(self, key)) and not self.init_from:
                raise ValueError(f"start.{key} = {list(parts)} without start.init_from; wanted a model")
        for new in self.new:
            for frozen in self.frozen:
                if f"{new}.".startswith(f"{frozen}.") or f"{frozen}.".startswith(f"{new}."):
                    raise ValueError(
                        f"start.new has {new!r} and start.frozen {frozen!r}; wanted a new part to learn"
                    )
        return self


class ImplantsConfig(Table):
    """See `datasets.implant.Variety`; a validation sets nodules in as they are."""

    zoom: Annotated[float, Field(ge=1, le=2)]
    faint: Share


class AugmentationConfig(Table):
    """See `datasets.augment.Augmentation`."""

    thick_slices: Share
    blur: Share
    noise_hu: Weight
    noise_grain_mm: Annotated[float, Field(ge=0, le=3)]
    gain: Share
    shift_hu: Weight
    gamma: Share
    resample: Share
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Share
    shift_mm: Weight
    elastic_mm: Annotated[float, Field(ge=0, le=4)]  # more could fold the image over itself


class OptimConfig(Table):
    """AdamW with warm-up and cosine."""

    lr: Positive
    weight_decay: Weight
    warmup_steps: Number
    clip_norm: Positive
    ema: Annotated[float, Field(ge=0, lt=1)]  # decay of the averaged weights a step; 0: none


class LoopConfig(Table):
    """How long and in what pieces."""

    epochs: Count
    steps_per_epoch: Count
    batch_size: Count  # samples of a step, over all processes
    accumulate: Count  # pieces that a batch is computed in
    workers: Number
    best_by: str  # one of `BEST_BY`
    patience: Number  # epochs without a better one until it stops; 0: never

    @model_validator(mode="after")
    def _divides(self) -> LoopConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"loop.accumulate = {self.accumulate}: wanted a divisor of loop.batch_size, {self.batch_size}"
            )
        return self


class ComputeConfig(Table):
    """How a step is computed; what is learnt is the same but for rounding."""

    precision: Literal["auto", "bf16", "fp16", "fp32"]  # auto: bf16 where the device is fast in it
    channels_last: bool
    compile: bool
    sync_batch_norm: bool  # over all processes
    profile_steps: Number  # steps that are traced


class ValidationConfig(Table):
    """What each epoch is judged by."""

    samples: Count
    scans: Number  # whole ones


class ClassifierValidation(ValidationConfig):
    """A classifier judges what a segmentation proposes."""

    segmentation: str  # a model file or a run's folder; "": the bundled one


class SegmentationLoss(Table):
    """Weights of the parts of a loss, see `training.segmentation`."""

    focal: Weight
    bce: Weight
    dice: Weight
    hard_share: Annotated[float, Field(gt=0, le=1)]  # of a sample's background, the hardest, that bce counts
    false_negatives: Positive  # a missed voxel weighs so many times a false one in dice

    @model_validator(mode="after")
    def _some(self) -> SegmentationLoss:
        _check_some("loss", focal=self.focal, bce=self.bce, dice=self.dice)
        return self


class ClassifierLoss(Table):
    """Weights of the parts of a loss, see `training.nodule` and `training.malignancy`."""

    nodule: Weight
    malignancy: Weight
    diameter: Weight
    false_negatives: Positive  # weight of a nodule against another crop in `nodule`
    malignancy_labels: Literal["binary", "soft", "ordinal"]

    @model_validator(mode="after")
    def _some(self) -> ClassifierLoss:
        _check_some("loss", nodule=self.nodule, malignancy=self.malignancy, diameter=self.diameter)
        return self


class MalignancyLoss(ClassifierLoss):
    """A network that outlines the nodule learns that too."""

    outline: Weight
