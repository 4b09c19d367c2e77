"""Put what was measured into a model's card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import Figure, ModelCard
from p2ch_luna.report.benchmark.schema import BenchmarkReport
from p2ch_luna.report.card import benchmark, malignancy, robustness
from p2ch_luna.report.card.conditions import without_networks
from p2ch_luna.report.malignancy.schema import MalignancyReport
from p2ch_luna.report.robustness.schema import RobustnessReport

WANTED = "benchmark.json, robustness.json or malignancy.json"


class Measured(NamedTuple):
    """What a file says of the networks that it names; every failure ends with `; {on}` of a figure."""

    figures: Sequence[Figure]
    failures: Sequence[str]


class Kind(NamedTuple):
    """One of the files that a card takes figures from."""

    schema: type[BaseModel]
    has: frozenset[str]  # keys of this kind alone
    tasks: frozenset[str]  # of the networks that it says something of
    read: Callable[[Any], Measured]
    networks: Callable[[Any], Mapping[str, str]]  # SHA-256 of the weights that it was measured with
    calibration: Callable[[Any], str | None]  # … of what joined both stages; None: nothing of it is joined


def _of_benchmark(report: BenchmarkReport) -> Measured:
    return Measured(benchmark.figures_of(report), benchmark.failures_of(report))


def _of_robustness(report: RobustnessReport) -> Measured:
    return Measured(robustness.figures_of(report), robustness.failures_of(report))


def _of_malignancy(report: MalignancyReport) -> Measured:
    return Measured(malignancy.figures_of(report), malignancy.failures_of(report))


def _models(report: BenchmarkReport | RobustnessReport) -> Mapping[str, str]:
    return report.inputs.models


def _calibration(report: BenchmarkReport | RobustnessReport) -> str:
    return report.inputs.calibration


SEARCHING = frozenset({"segmentation", "nodule"})
KINDS = (
    Kind(BenchmarkReport, frozenset({"inputs", "figures"}), SEARCHING, _of_benchmark, _models, _calibration),
    Kind(
        RobustnessReport, frozenset({"inputs", "variants"}), SEARCHING, _of_robustness, _models, _calibration
    ),
    Kind(
        MalignancyReport,
        frozenset({"judges", "places"}),
        frozenset({"malignancy"}),
        _of_malignancy,
        malignancy.judged_by,
        lambda _: None,
    ),
)


def add_file(card: ModelCard, path: Path) -> ModelCard:
    """The card with the figures of a file; those of the same conditions, and their failures, make room.

    Raises LunaError for a file that is none of these, says nothing of a network of this task, or was
    measured with other weights or another calibration.
    """
    kind, report = _read(path)
    task = card.config.get("task")
    if task not in kind.tasks:
        wanted = " or ".join(sorted(kind.tasks))
        raise LunaError(
            f"{path}: says nothing of a network for the task {task!r}; wanted the card of {wanted}"
        )
    _check_weights(card, path, kind.networks(report))
    _check_calibration(card, path, kind.calibration(report))
    if isinstance(report, MalignancyReport):
        malignancy.check_recipe(card, path, report)
    return _joined(card, kind.read(report))


def add_failures(card: ModelCard, failures: Sequence[str]) -> ModelCard:
    """The card with failures that a person saw; one that is there already is not told twice."""
    return card.model_copy(update={"known_failures": tuple(dict.fromkeys([*card.known_failures, *failures]))})


def _read(path: Path) -> tuple[Kind, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted {WANTED}") from error
    except ValueError as error:
        raise LunaError(f"{path}: not JSON: {error}; wanted {WANTED}") from error
    keys = set(found) if isinstance(found, dict) else set()
    kind = next((kind for kind in KINDS if kind.has <= keys), None)
    if kind is None:
        raise LunaError(f"{path}: its keys are {', '.join(sorted(keys)) or 'none'}; wanted {WANTED}")
    try:
        return kind, kind.schema.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LunaError(f"{path}: {where}: {first['msg']}; wanted {WANTED} of this version") from error


def _check_weights(card: ModelCard, path: Path, networks: Mapping[str, str]) -> None:
    """Raise LunaError where a file names its networks and the card's is not among them."""
    if networks and card.weights_sha256 not in networks.values():
        named = ", ".join(f"{stage} {sha256[:12]}…" for stage, sha256 in networks.items())
        raise LunaError(f"{path}: measured with {named}; wanted the card's own, {card.weights_sha256[:12]}…")


def _check_calibration(card: ModelCard, path: Path, found: str | None) -> None:
    """Raise LunaError where a classifier's card joins both stages otherwise than they were in the file.

    The card of a segmentation does not say how: any will do.
    """
    if found is None or card.config.get("task") != "nodule":
        return
    own = card.calibration.sha256 if card.calibration else ""
    if found != own:
        told, wanted = (
            f"calibration {sha256[:12]}…" if sha256 else "no calibration" for sha256 in (found, own)
        )
        raise LunaError(f"{path}: measured with {told}; wanted the card's own, {wanted}: measure it again")


def _joined(card: ModelCard, new: Measured) -> ModelCard:
    """Old figures of the same conditions go, also where only the other network was another."""
    measured = {without_networks(figure.on) for figure in new.figures}
    old = [figure.on for figure in card.figures if without_networks(figure.on) in measured]
    outdated = tuple(f"; {on}" for on in old)
    figures = [figure for figure in card.figures if figure.on not in old]
    failures = [text for text in card.known_failures if not text.endswith(outdated)]
    return card.model_copy(
        update={
            "figures": (*figures, *new.figures),
            "known_failures": tuple(dict.fromkeys([*failures, *new.failures])),
        }
    )
