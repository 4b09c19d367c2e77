"""The whole way from a CT to scored findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Candidate, Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.anatomy import LungMap, coverage_warnings, lung_map
from p2ch_luna.inference.classify import CROP_IRC, Opinions, classify
from p2ch_luna.inference.joint import joined
from p2ch_luna.inference.propose import DEFAULT_PROPOSAL, Dropped, Proposals, ProposalSettings, propose
from p2ch_luna.inference.regions import Region
from p2ch_luna.inference.runtime import Runtime, check_runtime, on_runtime
from p2ch_luna.inference.tiles import plan_tiles, segment
from p2ch_luna.lungs import Lungs, PreparedCt, find_lungs, prepare
from p2ch_luna.models.checkpoint import Calibration, ModelCard, bundled, chosen, load_model
from p2ch_luna.models.precision import device_of

SEGMENTATION = "segmentation"
CLASSIFIER = "classifier"  # the stage whose card holds the calibration
HEADS = 2  # of a classifier that are asked: of a nodule, and of malignancy
MALIGNANCY = "malignancy"  # the task of a network that judges nodules alone, and its stage


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
    detections: list[Detection]  # every candidate that was judged, the most probable first
    warnings: list[str]
    timings_s: dict[str, float]  # seconds of each stage, in their order
    proposal: ProposalSettings
    models: Mapping[str, ModelCard]  # by stage; empty for networks that came without a file
    regions: tuple[Region, ...] = ()  # of each detection, to measure it
    dropped: tuple[Dropped, ...] = ()  # candidates that were not judged, and why, the best first
    lungs: LungMap | None = None  # None: none were found
    prepared: PreparedCt | None = None  # the CT as it was searched; None: it was not


@dataclass(frozen=True, eq=False)
class NoduleDetector:
    """Two or three networks and what joins them. Call it with a CT.

    segmentation: (B, 1, D, H, W) HU at 1 mm -> mask logit of the same shape.
    classifier: (B, 1, *crop_irc) HU at 1 mm -> (nodule logit (B,), malignancy logit (B,)).
    malignancy: the same of crops of `malignancy_crop_irc`; its malignancy logit takes the place of the
    classifier's. Without it malignancy is not judged where the classifier has not learnt to.
    The classifier's card in `models` says how both stages' logits become one probability.
    """

    segmentation: nn.Module
    classifier: nn.Module
    device: torch.device
    proposal: ProposalSettings = DEFAULT_PROPOSAL
    crop_irc: tuple[int, ...] = CROP_IRC  # voxels of 1 mm that the classifier sees
    models: Mapping[str, ModelCard] = field(default_factory=dict)
    malignancy: nn.Module | None = None
    malignancy_crop_irc: tuple[int, ...] = CROP_IRC
    search_without_lungs: bool = False  # search the body, or the whole volume, where no lungs are found

    @classmethod
    def load(
        cls,
        segmentation: Path | str | None = None,
        classifier: Path | str | None = None,
        device: torch.device | str = "cpu",
        malignancy: Path | str | None = None,
        runtime: Runtime = "torch",
    ) -> NoduleDetector:
        """Read the weights; the bundled ones for None. `runtime` is the library that computes with them.

        device: as torch names it, or "auto": CUDA if it is there, else the CPU.
        Where no malignancy network is bundled the classifier itself says how malignant a nodule looks, if
        it has learnt to. Raises LunaError for a file of another network, or of one trained for another task,
        and for a device or a runtime that is not there, or a runtime that does not compute on this device.
        """
        device = device_of(str(device))
        check_runtime(runtime, device)
        first, first_card = load_model(chosen(segmentation, SEGMENTATION), device, "segmentation_unet")
        second, second_card = _load_classifier(chosen(classifier, "nodule"), device, runtime)
        detector = cls(
            on_runtime(first, device, runtime),
            second,
            device,
            crop_irc=_crop_irc(second_card),
            models={SEGMENTATION: first_card, CLASSIFIER: second_card},
        )
        weights = chosen(malignancy, MALIGNANCY)
        if weights == bundled(MALIGNANCY) and not weights.is_file():
            return detector
        third, third_card = _load_malignancy(weights, device, runtime)
        return replace(
            detector,
            models={**detector.models, MALIGNANCY: third_card},
            malignancy=third,
            malignancy_crop_irc=_crop_irc(third_card),
        )

    @property
    def calibration(self) -> Calibration | None:
        """What the classifier's card holds; None: the joint logit is the mean of both stages'."""
        card = self.models.get(CLASSIFIER)
        return card.calibration if card else None

    def two_stages(self) -> NoduleDetector:
        """Only the networks that decide on the probability of a nodule."""
        models = {stage: card for stage, card in self.models.items() if stage != MALIGNANCY}
        return replace(self, models=models, malignancy=None)

    def uncalibrated(self) -> NoduleDetector:
        """The same networks as if no card held a calibration."""
        bare = {stage: card.model_copy(update={"calibration": None}) for stage, card in self.models.items()}
        return replace(self, models=bare)

    def __call__(self, ct: CtVolume, progress: Progress | None = None) -> Diagnosis:
        """Find the nodules of one CT; positions are LPS mm of that CT, whatever its grid.

        Where no lungs are found nothing is searched, and a warning says so.
        """
        clock = Clock(progress or Silent())
        with clock.stage("lungs"):
            lungs = find_lungs(ct)
            is_searched = lungs.warning is None or self.search_without_lungs
            prepared = prepare(ct, lungs=lungs) if is_searched else None
        found, dropped = self._found(prepared, clock) if prepared else ([], [])
        return Diagnosis(
            series_uid=ct.series_uid,
            detections=[detection for detection, _ in found],
            warnings=[*_told(lungs, is_searched), *self._strangers()],
            timings_s=clock.seconds,
            proposal=self.proposal,
            models=self.models,
            regions=tuple(region for _, region in found),
            dropped=tuple(dropped),
            lungs=lung_map(lungs),
            prepared=prepared,
        )

    def _found(
        self, prepared: PreparedCt, clock: Clock
    ) -> tuple[list[tuple[Detection, Region]], list[Dropped]]:
        """What is detected and where, the most probable first, and what was not judged."""
        proposals, dropped = _propose(self.segmentation, prepared, self.device, self.proposal, clock)
        candidates = [proposal.candidate for proposal in proposals]
        opinions = self._opinions(prepared.ct, candidates, clock)
        judged = joined(candidates, opinions, self.calibration)
        found = zip(judged, (proposal.region for proposal in proposals), strict=True)
        return sorted(found, key=lambda one: -one[0].probability), dropped

    def _strangers(self) -> list[str]:
        """That the classifier was calibrated with another segmentation, if so."""
        proposer, wanted = (
            self.models.get(SEGMENTATION),
            self.calibration and self.calibration.segmentation_sha256,
        )
        if not wanted or not proposer or proposer.weights_sha256 == wanted:
            return []
        return [
            "the classifier was calibrated with another segmentation: probabilities and operating points may "
            "not hold; luna calibrate fits them anew"
        ]

    def _opinions(self, ct: CtVolume, candidates: list[Candidate], clock: Clock) -> Opinions:
        """The classifier's, its malignancy replaced where there is a network of its own for that."""
        ask = partial(classify, ct=ct, candidates=candidates, device=self.device)
        with clock.stage("classification", len(candidates)) as advance:
            opinions = ask(self.classifier, crop_irc=self.crop_irc, advance=advance)
        if self.malignancy is None:
            card = self.models.get(CLASSIFIER)
            untaught = card is not None and not learnt_malignancy(card)
            return opinions._replace(malignancy_probability=None) if untaught else opinions
        with clock.stage(MALIGNANCY, len(candidates)) as advance:
            suspicion = ask(
                self.malignancy, crop_irc=self.malignancy_crop_irc, advance=advance, name=MALIGNANCY
            )
        return opinions._replace(malignancy_probability=suspicion.malignancy_probability)


def _told(lungs: Lungs, is_searched: bool) -> list[str]:
    """Warnings of lungs that were not found, or are not whole in the image."""
    if lungs.warning is None:
        return coverage_warnings(lungs)
    if is_searched:
        return [lungs.warning]
    reason, _, _ = lungs.warning.partition(";")  # what follows is of those who search without lungs
    return [f"{reason}; nothing was searched"]


def _load_classifier(weights: Path, device: torch.device, runtime: Runtime) -> tuple[nn.Module, ModelCard]:
    """A network that tells nodules from the rest: one fine-tuned on malignancy has forgotten that."""
    model, card = load_model(weights, device, "nodule_classifier")
    if card.config.get("task") == MALIGNANCY:
        raise LunaError(
            f"{weights}: trained for the task 'malignancy'; wanted one for 'nodule' as classifier"
        )
    return on_runtime(model, device, runtime, answers=HEADS), card


def _load_malignancy(weights: Path, device: torch.device, runtime: Runtime) -> tuple[nn.Module, ModelCard]:
    model, card = load_model(weights, device, "nodule_classifier")
    task = card.config.get("task")
    if task != MALIGNANCY:
        raise LunaError(f"{weights}: trained for the task {task!r}; wanted one for 'malignancy'")
    check_learnt_malignancy(weights, card)
    return on_runtime(model, device, runtime, answers=HEADS), card


def learnt_malignancy(card: ModelCard) -> bool:
    """Whether a classifier's malignancy logit was trained; so it is taken of a card that does not say."""
    return bool(card.config.get("loss", {}).get("malignancy", 1.0))


def check_learnt_malignancy(weights: Path, card: ModelCard) -> None:
    """Raise LunaError unless these weights have `learnt_malignancy`."""
    if not learnt_malignancy(card):
        raise LunaError(
            f"{weights}: trained with loss.malignancy = 0, so that it says nothing of malignancy; wanted a "
            "network that was trained with a weight above 0"
        )


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
    proposals = _propose(segmentation, prepared, device, settings, Clock(Silent()))
    return [found.candidate for found in proposals.kept]


def _propose(
    segmentation: nn.Module,
    prepared: PreparedCt,
    device: torch.device,
    settings: ProposalSettings,
    clock: Clock,
) -> Proposals:
    tiles = plan_tiles(prepared.lung)
    with clock.stage("segmentation", len(tiles)) as advance:
        probability = segment(segmentation, prepared.ct.hu, tiles, device=device, advance=advance)
    with clock.stage("candidates"):
        return propose(probability, prepared.lung, prepared.ct.geometry, prepared.ct.series_uid, settings)


class Clock:
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
