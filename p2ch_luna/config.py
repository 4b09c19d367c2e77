"""What a run is made of: strict, frozen, complete models, and how they are read from TOML."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from p2ch_luna.errors import LunaError

Fold = Annotated[int, Field(ge=0, le=9)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

MODELS: Mapping[str, str] = {"segmentation": "segmentation_unet", "nodule": "nodule_classifier"}  # by task
LOSS_PARTS: Mapping[str, set[str]] = {"segmentation": {"focal", "dice"}, "nodule": {"nodule", "malignancy"}}
SOURCES: Mapping[str, set[str]] = {  # of samples, see `training.tasks`
    "segmentation": {"nodules", "candidates", "lung", "implants", "cubes"},
    "nodule": {"nodules", "found_nodules", "implants", "cubes", "candidates", "vessels", "lung"},
}


class Table(BaseModel):
    """One table of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Table):
    """Where data come from and who may train on them. Paths count from the current folder."""

    luna16: str  # LUNA16's folder: subsets and lists, found in it; "" for none
    scans: tuple[str, ...]  # other annotated scans: files, or folders of them
    annotations: str  # their nodules, LUNA16 columns; "" for none
    excluded: str  # findings of scans and hosts to learn nothing from, LUNA16 columns; "" for none
    candidates: tuple[str, ...]  # places that are nodules or none, as `luna mine` writes them
    lidc: str  # folder of nodules.csv and voi/: nodules to implant; "": the scans' own
    cubes: str  # folder of LIDC cubes; "" for none
    cube_patients: str  # table of the patients that a cube may be of; needed with cubes
    hosts: tuple[str, ...]  # scans to implant into in training, whose own nodules are not known
    validation_hosts: tuple[str, ...]  # the same for validation
    credits: tuple[str, ...]  # what all this is and its licences, for the model's card
    train_folds: tuple[Fold, ...]
    validation_folds: tuple[Fold, ...]
    shape_irc: tuple[Count, Count, Count]  # voxels of 1 mm

    @model_validator(mode="after")
    def _sides(self) -> DataConfig:
        if any(n % 16 for n in self.shape_irc) or self.shape_irc[1] != self.shape_irc[2]:
            raise ValueError("shape_irc needs multiples of 16, and as many rows as columns")
        if shared := set(self.train_folds) & set(self.validation_folds):
            raise ValueError(f"fold {min(shared)} is in train_folds and in validation_folds")
        return self


class ModelConfig(Table):
    """A network: a name of `models.build.BUILDERS` and what it is built with."""

    name: Literal["segmentation_unet", "nodule_classifier"]
    widths: Annotated[tuple[Count, ...], Field(min_length=2, max_length=4)]  # each halves the grid; tiles: 16
    window_hu: tuple[float, float]

    @field_validator("window_hu")
    @classmethod
    def _rises(cls, window_hu: tuple[float, float]) -> tuple[float, float]:
        if not window_hu[0] < window_hu[1]:
            raise ValueError("wanted low < high")
        return window_hu


class AugmentationConfig(Table):
    """See `datasets.augment.Augmentation`."""

    thick_slices: Share
    blur: Share
    noise_hu: Annotated[float, Field(ge=0)]
    noise_grain_mm: Annotated[float, Field(ge=0, le=3)]
    gain: Share
    shift_hu: Annotated[float, Field(ge=0)]
    gamma: Share
    resample: Share
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Share
    shift_mm: Annotated[float, Field(ge=0)]
    elastic_mm: Annotated[float, Field(ge=0, le=4)]  # more could fold the image over itself


class OptimConfig(Table):
    """AdamW with warm-up and cosine."""

    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    clip_norm: Positive


class LoopConfig(Table):
    """How long and in what pieces."""

    epochs: Count
    steps_per_epoch: Count
    batch_size: Count
    validation_samples: Count
    workers: Annotated[int, Field(ge=0)]


class RunConfig(Table):
    """A whole run."""

    task: Literal["segmentation", "nodule"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no other
    data: DataConfig
    model: ModelConfig
    augmentation: AugmentationConfig
    optim: OptimConfig
    loop: LoopConfig
    sampling: dict[str, Share]  # of the samples, by source; their sum counts as 1
    loss: dict[str, Positive]  # the weight of each part of the task's loss

    @model_validator(mode="after")
    def _fits_task(self) -> RunConfig:
        if self.model.name != MODELS[self.task]:
            raise ValueError(
                f"model.name = {self.model.name!r}: task {self.task!r} wants {MODELS[self.task]!r}"
            )
        for table, found, wanted in (
            ("loss", self.loss, LOSS_PARTS[self.task]),
            ("sampling", self.sampling, SOURCES[self.task]),
        ):
            if wrong := sorted(found.keys() ^ wanted):
                said = "unknown" if wrong[0] in found else "missing"
                raise ValueError(
                    f"{table}.{wrong[0]} is {said}: task {self.task!r} wants {', '.join(sorted(wanted))}"
                )
        if not sum(self.sampling.values()):
            raise ValueError("sampling: all shares are 0; wanted one above")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML config; `overrides` are "optim.lr=3e-4" as after `--set`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted a config, as in configs/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LunaError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        _set(tables, override)
    return check_config(tables, str(path))


def check_config(tables: dict[str, Any], source: str) -> RunConfig:
    """Validate parsed tables; the first thing wrong is the LunaError, `source` its beginning."""
    try:
        return RunConfig.model_validate(tables)
    except ValidationError as error:
        raise LunaError(f"{source}: {_first_error(error)}") from error


def _set(tables: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise LunaError(f"--set {override}: no '='; wanted table.key=value")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a word is a string, without quotes
    *parents, last = key.strip().split(".")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise LunaError(f"--set {override}: {parent} is not a table")
    table[last] = parsed


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return str(first["ctx"]["error"])  # of a whole table: it names the key itself
    if first["type"] != "extra_forbidden":
        return f"{key} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
    known = _keys_beside(first["loc"])
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=3)
    return (
        f"unknown key {key}; near are {', '.join(near)}"
        if near
        else f"unknown key {key}; known: {', '.join(known)}"
    )


def _keys_beside(location: Iterable[int | str]) -> list[str]:
    model: Any = RunConfig
    for part in list(location)[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
