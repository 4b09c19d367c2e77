"""A model's card for a person: what it says, in sections of sentences and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from p2ch_luna.models.checkpoint import Calibration, Figure, ModelCard

Row = tuple[str, ...]

WHAT_IT_DOES = {  # by task
    "segmentation": "Proposes: marks the voxels of a CT that may belong to a nodule.",
    "nodule": "Judges: says of a proposed place how probable it is a nodule.",
    "malignancy": "Says how malignant radiologists would call a nodule: their suspicion, not pathology.",
}
SIDES = {  # name: patients, annotated scans and backgrounds, as a split calls them
    "training": ("train", "train scans", "train hosts"),
    "training before, of the weights it began with": (
        "pretrained on",
        "pretrained scans",
        "pretrained hosts",
    ),
    "validation": ("validation", "validation scans", "validation hosts"),
}
NOT_TOLD = "not told"
STORED_PARAMETERS = "F16"  # the type of parameters in a file, and of nothing else: see `save_model`


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and perhaps a table under them."""

    title: str
    lines: tuple[str, ...] = ()
    head: Row = ()
    rows: tuple[Row, ...] = ()


def count_parameters(weights: Path) -> int:
    """How many numbers of a model file were learnt; only its header is read."""
    with safe_open(weights, framework="numpy") as file:
        parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (no dict)
        stored = [part.get_shape() for part in parts if part.get_dtype() == STORED_PARAMETERS]
    return sum(_product(shape) for shape in stored)


def _product(shape: Sequence[int]) -> int:
    found = 1
    for side in shape:
        found *= side
    return found


def sections(card: ModelCard, weights: Path, *, patients: bool) -> list[Section]:
    """All that the card of these weights says; of whom it trained on only counts, unless `patients`."""
    found = [
        _what(card, weights),
        Section("Use", (card.intended_use,)),
        Section("Data and licences", tuple(f"- {credit}" for credit in card.data) or (NOT_TOLD,)),
        _sides(card.split),
        Section("Made with", (), ("setting", "value"), tuple(_settings(card.config))),
        _metrics(card.metrics, card.split),
        *_figures(card.figures),
        *([_operating_points(card.calibration)] if card.calibration else []),
        _failures(card),
        *(_members(card.split) if patients else ()),
        Section("Origin", (card.software, f"SHA-256 of the weights {card.weights_sha256}")),
    ]
    return [section for section in found if section.lines or section.rows]


def _what(card: ModelCard, weights: Path) -> Section:
    task = str(card.config.get("task", card.builder))
    size = weights.stat().st_size / 1e6
    built = f"{card.builder} with {_listed(card.arguments)}"
    return Section(
        "What it is",
        (
            WHAT_IT_DOES.get(task, f"A network for the task {task}."),
            f"{built}; {count_parameters(weights):,} parameters, {size:.1f} MB.",
        ),
    )


def _sides(split: Mapping[str, Sequence[str]]) -> Section:
    """How many trained and validated, and which folds nobody touched."""
    rows = []
    for side, keys in SIDES.items():
        if any(key in split for key in keys):
            counts = (str(len(split[key])) if key in split else NOT_TOLD for key in keys)
            rows.append((side, *counts))
    known = {key for keys in SIDES.values() for key in keys}
    others = (f"{key}: {', '.join(split[key]) or 'none'}" for key in split if key not in known)
    head = ("side", "patients", "annotated scans", "background scans")
    return Section("Who it learnt from", tuple(others), head, tuple(rows))


def _members(split: Mapping[str, Sequence[str]]) -> Iterator[Section]:
    """The names behind the counts."""
    for key in (key for keys in SIDES.values() for key in keys):
        if split.get(key):
            yield Section(f"{key} ({len(split[key])})", (", ".join(split[key]),))


def _settings(config: Mapping[str, Any]) -> Iterator[Row]:
    """The config in short; a key that an older one does not have is left out."""

    def table(name: str) -> Mapping[str, Any]:
        found = config.get(name)
        return found if isinstance(found, Mapping) else {}

    data, loop, optim, start = map(table, ("data", "loop", "optim", "start"))
    if "shape_irc" in data:
        yield "input", f"{' x '.join(map(str, data['shape_irc']))} voxels of 1 mm"
    if "train_folds" in data:
        yield "folds", f"train {_shown(data['train_folds'])}, validation {_shown(data['validation_folds'])}"
    for name, title in (("sampling", "samples"), ("implants", "implanted nodules"), ("loss", "loss")):
        if used := {key: value for key, value in table(name).items() if value}:
            yield title, _listed(used)
    if {"epochs", "steps_per_epoch", "batch_size"} <= loop.keys():
        yield (
            "length",
            f"{loop['epochs']} epochs of {loop['steps_per_epoch']} steps of {loop['batch_size']} samples",
        )
    if optim:
        yield "optimiser", _listed(optim)
    if start.get("init_from"):
        yield "began with", Path(start["init_from"]).name
    if "seed" in config:
        yield "seed", str(config["seed"])


def _metrics(metrics: Mapping[str, float], split: Mapping[str, Sequence[str]]) -> Section:
    """Of the epoch that was kept."""
    rows = tuple(
        (name.replace("_", " "), number(value)) for name, value in metrics.items() if name != "epoch"
    )
    epoch = f" of epoch {metrics['epoch']:g}" if "epoch" in metrics else ""
    told = [f"Figures{epoch}, which was picked by one of them: slightly too good."]
    hosts = split.get("validation hosts", ())
    if seen := set(hosts) & {*split.get("train hosts", ()), *split.get("pretrained hosts", ())}:
        told.append(
            f"{len(seen)} of the {len(hosts)} scan(s) that these nodules are set into were trained on: what "
            "is no nodule there was seen in training, so the figures are too good."
        )
    return Section("On the validation patients", tuple(told) if rows else (), ("figure", "value"), rows)


def _figures(figures: Sequence[Figure]) -> Iterator[Section]:
    """A section for all that was measured in one way."""
    for on in dict.fromkeys(figure.on for figure in figures):
        rows = tuple(
            (figure.name, number(figure.value), interval(figure.interval_95))
            for figure in figures
            if figure.on == on
        )
        yield Section("Measured", (f"On {on}.",), ("figure", "value", "95% interval"), rows)


def formula(calibration: Calibration) -> str:
    """How one probability comes of both logits."""
    return (
        f"probability = sigmoid({calibration.segmentation:.3f} x logit of the segmentation "
        f"+ {calibration.classifier:.3f} x logit of the classifier {calibration.intercept:+.3f})"
    )


def _operating_points(calibration: Calibration) -> Section:
    rows = tuple(
        (f"{point.fp_per_scan:g}", f"{point.probability:.4f}", f"{point.sensitivity:.3f}")
        for point in calibration.operating_points
    )
    return Section(
        "Operating points",
        (formula(calibration), f"Fitted on {calibration.on}."),
        ("FP/scan", "from probability", "sensitivity"),
        rows,
    )


def _failures(card: ModelCard) -> Section:
    """By hand first; the conditions are told once, above the failures that were found in them."""
    left, found = list(card.known_failures), []
    for on in dict.fromkeys(figure.on for figure in card.figures):
        own = [text for text in left if text.endswith(f"; {on}")]
        left = [text for text in left if text not in own]
        if own:
            found += [f"Found on {on}:", *(f"- {text.removesuffix(f'; {on}')}" for text in own)]
    return Section("Known failures", (*(f"- {text}" for text in left), *found))


def number(value: float) -> str:
    """Three digits behind the point for shares, fewer for counts."""
    if float(value).is_integer() and abs(value) > 1:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """`[0.700, 0.800]`; nothing where there is none."""
    return "" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
