"""Model files: weights as safetensors, and beside them a card that a person can read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.frozen import Frozen
from p2ch_luna.models.build import build_model

WEIGHTS = Path(__file__).parent.parent / "weights"
SUFFIX = ".safetensors"
OF_RUN = (
    "model.safetensors"  # the model in a run's folder; `training.run_dir`, read without torch, has it too
)

NONE_COUNTS = math.nextafter(1, 2)  # an operating point from here on has no finding, not even a sure one

Weight = Annotated[float, Field(ge=0)]


class OperatingPoint(Frozen):
    """From which probability on a finding counts, and what that brings."""

    fp_per_scan: float = Field(gt=0)
    probability: float = Field(ge=0, le=NONE_COUNTS)
    sensitivity: float = Field(ge=0, le=1)


class Calibration(Frozen):
    """How the logits of both stages become one probability, fitted on patients that nothing trained on."""

    segmentation: Weight  # of that stage's logit
    classifier: Weight
    intercept: float
    operating_points: tuple[OperatingPoint, ...]  # from few to many false positives
    on: str  # which scans and patients it was fitted on
    hosts: int = Field(default=0, ge=0)  # chests that these scans were made of; 0: nobody says
    segmentation_sha256: str = ""  # of the weights it was fitted with; "": nobody says

    @model_validator(mode="after")
    def _tells_apart(self) -> Calibration:
        if not self.segmentation and not self.classifier:
            raise ValueError("both weights are 0; wanted one above")
        return self

    @property
    def sha256(self) -> str:
        """Of what decides on a probability: figures of the joint score hold for one of these."""
        weights = [self.segmentation, self.classifier, self.intercept]
        return hashlib.sha256(json.dumps(weights).encode()).hexdigest()


class Figure(Frozen):
    """A figure of merit and its conditions."""

    name: str
    value: float
    interval_95: tuple[float, float] | None = None
    on: str  # scans and patients, and the command


class ModelCard(BaseModel):
    """What a network is, what it was made from and how good it is; saved as JSON beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    builder: str  # a name of `models.build.BUILDERS`
    arguments: dict[str, Any]  # of the builder
    intended_use: str = "Research only, not a medical device."
    config: dict[str, Any]  # the whole run, as resolved
    data: list[str]  # what it was trained on, with the licences
    split: dict[str, list[str]]  # patients by role: train, validation, test
    metrics: dict[str, float]  # on the validation patients
    calibration: Calibration | None = None  # of a classifier, with the segmentation it was fitted with
    figures: tuple[Figure, ...] = ()  # on patients and scans that nothing trained on
    known_failures: tuple[str, ...] = ()
    software: str
    weights_sha256: str = ""  # filled when the card is saved

    def to_json(self) -> str:
        """The text of the file beside the weights."""
        return self.model_dump_json(indent=1) + "\n"

    def check(self, weights: Path, content: bytes) -> None:
        """Raise LunaError where these bytes, read from `weights`, are not those that it is the card of."""
        found = hashlib.sha256(content).hexdigest()
        if found != self.weights_sha256:
            raise LunaError(f"{weights}: SHA-256 is {found[:12]}…, its card says {self.weights_sha256[:12]}…")


def bundled(name: str) -> Path:
    """The bundled weights called `name`: "segmentation", "nodule" or "malignancy"."""
    return WEIGHTS / f"{name}.safetensors"


def chosen(path: Path | str | None, name: str) -> Path:
    """The model at a path, as `weights_at` finds it; None: the bundled one of this name."""
    return bundled(name) if path is None else weights_at(Path(path))


def weights_at(path: Path) -> Path:
    """The model file itself, or that of a run's folder. Raises LunaError where there is none."""
    if path.is_file():
        if path.suffix.lower() != SUFFIX:
            raise LunaError(f"{path}: is no model; wanted a {SUFFIX} file with its card, or a run's folder")
        return path
    if not path.exists():
        raise LunaError(f"{path}: no such file; wanted a model (.safetensors) or a run's folder")
    if not (path / OF_RUN).is_file():
        raise LunaError(
            f"{path}: no {OF_RUN} in it; wanted a model (.safetensors), or a run with an epoch done"
        )
    return path / OF_RUN


def card_path(weights: Path) -> Path:
    """Where the card of these weights lies."""
    return weights.with_suffix(".json")


def save_model(weights: Path, model: nn.Module, card: ModelCard) -> None:
    """Write the weights, then the card that names their hash.

    Parameters are stored as float16: half the size, and finer than the bfloat16 they are used in.
    Buffers (batch norm's statistics, the HU window) keep their precision.
    """
    parameters = {name for name, _ in model.named_parameters()}
    state = {
        name: (value.half() if name in parameters else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    content = save(state)
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    with replacing(weights) as temporary, replacing(card_path(weights)) as temporary_card:
        temporary.write_bytes(content)  # both are on the disk before either is renamed
        temporary_card.write_text(card.to_json(), encoding="utf-8")


def load_card(weights: Path) -> ModelCard:
    """Read the card beside the weights."""
    path = card_path(weights)
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise LunaError(
            f"{path}: no such file; wanted the model's card there, beside its weights {weights.name}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LunaError(f"{path}: not a model card: {where}: {first['msg']}") from error


def load_model(
    weights: Path, device: torch.device | str = "cpu", builder: str | None = None
) -> tuple[nn.Module, ModelCard]:
    """Build the network that the card names and load its weights, in evaluation mode on `device`.

    With `builder` the card must name that one: a classifier is not taken for a segmentation.
    """
    card = load_card(weights)
    if builder is not None and card.builder != builder:
        raise LunaError(f"{weights}: holds a {card.builder}; wanted a {builder}")
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise LunaError(f"{weights}: {error.strerror}; wanted a .safetensors file") from error
    card.check(weights, content)
    model = build_model(card.builder, card.arguments)
    _load_state(model, content, weights)
    return model.eval().to(device), card


def _load_state(model: nn.Module, content: bytes, weights: Path) -> None:
    try:
        state: Mapping[str, torch.Tensor] = load(content)
        model.load_state_dict(state)  # copies into the model's own precision
    except (SafetensorError, RuntimeError) as error:
        raise LunaError(f"{weights}: does not hold the weights of its card's network: {error}") from error
