"""The whole way from a CT to scored findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate, Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.classify import CROP_IRC, Opinions, classify
from p2ch_luna.inference.fast import ready
from p2ch_luna.inference.propose import DEFAULT_PROPOSAL, ProposalSettings, propose
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.models.checkpoint import ModelCard, bundled, load_model

MALIGNANCY = "malignancy"  # the task of a network that judges nodules alone
LOGIT_LIMIT = 10.0  # one stage alone cannot be so sure that the other has no say


class Progress(Protocol):
    """Hears what is being done."""

    def stage(self, text: str, total: float | None = None) -> None:
        """A stage begins, of `total` steps if that is known."""

    def advance(self, steps: float = 1) -> None:
        """So many more steps of it are done."""


class Silent:
    """A `Progress` that tells nobody."""

    def stage(self, text: str, total: float | None = None) -> None:
        """Nothing to tell."""

    def advance(self, steps: float = 1) -> None:
        """Nothing to tell."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one CT and how."""

    series_uid: str
    detections: list[Detection]  # every candidate with its score, the most probable first
    warnings: list[str]
    timings_s: dict[str, float]  # seconds of each stage, in their order
    proposal: ProposalSettings
    models: Mapping[str, ModelCard]  # by stage; empty for networks that came without a file


@dataclass(frozen=True, eq=False)
class NoduleDetector:
    """Two or three networks and what joins them. Call it with a CT.

    segmentation: (B, 1, D, H, W) HU at 1 mm -> mask logit of the same shape.
    classifier: (B, 1, *crop_irc) HU at 1 mm -> (nodule logit (B,), malignancy logit (B,)).
    malignancy: the same of crops of `malignancy_crop_irc`; its malignancy logit takes the place of the
    classifier's.
    """

    segmentation: nn.Module
    classifier: nn.Module
    device: torch.device
    proposal: ProposalSettings = DEFAULT_PROPOSAL
    crop_irc: tuple[int, ...] = CROP_IRC  # voxels of 1 mm that the classifier sees
    models: Mapping[str, ModelCard] = field(default_factory=dict)
    malignancy: nn.Module | None = None
    malignancy_crop_irc: tuple[int, ...] = CROP_IRC

    @classmethod
    def load(
        cls,
        segmentation: Path | None = None,
        classifier: Path | None = None,
        device: torch.device | str = "cpu",
        malignancy: Path | None = None,
    ) -> NoduleDetector:
        """Read the weights; the bundled ones for None, but the classifier itself for no `malignancy`.

        Raises LunaError for a file of another network, or of one trained for another task.
        """
        device = torch.device(device)
        first, first_card = load_model(segmentation or bundled("segmentation"), device, "segmentation_unet")
        second, second_card = _load_classifier(classifier or bundled("nodule"), device)
        detector = cls(
            ready(first, device),
            second,
            device,
            crop_irc=_crop_irc(second_card),
            models={"segmentation": first_card, "classifier": second_card},
        )
        if malignancy is None:
            return detector
        third, third_card = _load_malignancy(malignancy, device)
        return replace(
            detector,
            models={**detector.models, "malignancy": third_card},
            malignancy=third,
            malignancy_crop_irc=_crop_irc(third_card),
        )

    def __call__(self, ct: CtVolume, progress: Progress | None = None) -> Diagnosis:
        """Find the nodules of one CT; positions are LPS mm of that CT, whatever its grid."""
        clock = _Clock(progress or Silent())
        with clock.stage("lungs"):
            prepared = prepare(ct)
        candidates = _propose(self.segmentation, prepared, self.device, self.proposal, clock)
        opinions = self._opinions(prepared.ct, candidates, clock)
        return Diagnosis(
            series_uid=ct.series_uid,
            detections=score(candidates, opinions),
            warnings=[prepared.warning] if prepared.warning else [],
            timings_s=clock.seconds,
            proposal=self.proposal,
            models=self.models,
        )

    def _opinions(self, ct: CtVolume, candidates: list[Candidate], clock: _Clock) -> Opinions:
        """The classifier's, its malignancy replaced where there is a network of its own for that."""
        ask = partial(classify, ct=ct, candidates=candidates, device=self.device)
        with clock.stage("classification", len(candidates)) as advance:
            opinions = ask(self.classifier, crop_irc=self.crop_irc, advance=advance)
        if self.malignancy is None:
            return opinions
        with clock.stage("malignancy", len(candidates)) as advance:
            suspicion = ask(
                self.malignancy, crop_irc=self.malignancy_crop_irc, advance=advance, name="malignancy"
            )
        return opinions._replace(malignancy_probability=suspicion.malignancy_probability)


def _load_classifier(weights: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    """A network that tells nodules from the rest: one fine-tuned on malignancy has forgotten that."""
    model, card = load_model(weights, device, "nodule_classifier")
    if card.config.get("task") == MALIGNANCY:
        raise LunaError(
            f"{weights}: trained for the task 'malignancy'; wanted one for 'nodule' as classifier"
        )
    return ready(model, device), card


def _load_malignancy(weights: Path, device: torch.device) -> tuple[nn.Module, ModelCard]:
    model, card = load_model(weights, device, "nodule_classifier")
    task = card.config.get("task")
    if task != MALIGNANCY:
        raise LunaError(f"{weights}: trained for the task {task!r}; wanted one for 'malignancy'")
    return ready(model, device), card


def _crop_irc(card: ModelCard) -> tuple[int, ...]:
    """Voxels of 1 mm that a network was trained on."""
    return tuple(card.config.get("data", {}).get("shape_irc", CROP_IRC))


def propose_candidates(
    segmentation: nn.Module,
    prepared: PreparedCt,
    device: torch.device,
    settings: ProposalSettings = DEFAULT_PROPOSAL,
) -> list[Candidate]:
    """What a segmentation network proposes in a prepared CT, best first: what the classifier will see.

    It is fast with a network made `fast.ready`.
    """
    return _propose(segmentation, prepared, device, settings, _Clock(Silent()))


def _propose(
    segmentation: nn.Module,
    prepared: PreparedCt,
    device: torch.device,
    settings: ProposalSettings,
    clock: _Clock,
) -> list[Candidate]:
    tiles = plan_tiles(prepared.lung)
    with clock.stage("segmentation", len(tiles)) as advance:
        probability = segment(segmentation, prepared.ct.hu, tiles, device=device, advance=advance)
    with clock.stage("candidates"):
        return propose(probability, prepared.lung, prepared.ct.geometry, prepared.ct.series_uid, settings)


def score(candidates: list[Candidate], opinions: Opinions) -> list[Detection]:
    """Join both stages' opinions, the most probable first; opinions are in the candidates' order."""
    detections = [
        Detection(
            series_uid=candidate.series_uid,
            center_xyz=candidate.center_xyz,
            probability=joint_probability(candidate.probability, float(nodule)),
            diameter_mm=candidate.diameter_mm,
            volume_mm3=candidate.volume_mm3,
            segmentation_probability=candidate.probability,
            classifier_probability=float(nodule),
            malignancy_probability=float(malignancy),
        )
        for candidate, nodule, malignancy in zip(candidates, *opinions, strict=True)
    ]
    return sorted(detections, key=lambda detection: -detection.probability)


def joint_probability(segmentation_probability: float, classifier_probability: float) -> float:
    """The sigmoid of the mean of both stages' logits: both must be fairly sure."""
    stages = np.array([segmentation_probability, classifier_probability], np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(stages) - np.log1p(-stages)
    return float(1 / (1 + np.exp(-logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT).mean())))


class _Clock:
    """Tells a `Progress` of each stage and keeps how long it took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Time the block; it may call what is yielded with the steps it has done."""
        self._progress.stage(name, total)
        start = time.perf_counter()
        yield self._progress.advance
        self.seconds[name] = time.perf_counter() - start
