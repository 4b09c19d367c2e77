"""Have networks judge the nodules of patients whom they were not trained on, each nodule once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from p2ch_luna.datasets.candidates import ImplantCrops
from p2ch_luna.datasets.collection import Known, Share
from p2ch_luna.datasets.implant import Implantable
from p2ch_luna.datasets.splits import MOST_NAMED
from p2ch_luna.errors import LunaError
from p2ch_luna.inference.detector import check_learnt_malignancy
from p2ch_luna.inference.fast import fast_inference, ready
from p2ch_luna.models.checkpoint import ModelCard, load_model, weights_at
from p2ch_luna.report.malignancy.figures import Judged
from p2ch_luna.report.malignancy.recipe import recipe_of
from p2ch_luna.training.lineage import learnt_from

NODULES_AT_ONCE = 8
BUILDER = "nodule_classifier"


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network of crops, and what its card says."""

    name: str
    model: nn.Module
    card: ModelCard

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Run:
        """A model file or a run's folder.

        Raises LunaError unless it judges crops, has learnt malignancy and names its data.
        """
        weights = weights_at(path)
        model, card = load_model(weights, device, BUILDER)
        check_learnt_malignancy(weights, card)
        if not isinstance(card.config.get("data"), dict):
            raise LunaError(
                f"{path}: its card has no config of data; wanted a model that `luna train` writes"
            )
        return cls(str(path), ready(model, device), card)

    @property
    def data(self) -> dict[str, Any]:
        """The table `data` of its config."""
        found: dict[str, Any] = self.card.config["data"]
        return found

    def about(self, known: Known, share: Share) -> dict[str, object]:
        """What the report says of it."""
        hosts = [scan.series_uid for scan in [*share.scans, *share.hosts]]
        taught_by = learnt_from(self.card.split, known.patient_of)
        return {
            "run": Path(self.name).name,
            "weights_sha256": self.card.weights_sha256,
            "folds": tuple(self.data["validation_folds"]),
            "hosts": tuple(hosts),
            "seen_hosts": tuple(uid for uid in hosts if known.patient_of(uid) in taught_by),
            "epochs": self.card.config.get("loop", {}).get("epochs"),
            "recipe": recipe_of(self.card.config),
        }


def rated_nodules(run: Run, known: Known, share: Share) -> list[tuple[Implantable, str]]:
    """The nodules that somebody rated, with their patients.

    Raises LunaError where there is none, or where the network has learnt from one of the patients.
    """
    patients = {crop.name: crop.patient_id for crop in known.crops}
    found = [
        (nodule, patients.get(nodule.name) or known.patient_of(nodule.name.rpartition("-")[0]))
        for nodule in share.nodules
        if nodule.malignancy is not None
    ]
    folds = list(run.data["validation_folds"])
    if not found:
        raise LunaError(f"{run.name}: no rated nodule in its validation folds {folds}; wanted some to judge")
    seen = sorted({patient for _, patient in found} & learnt_from(run.card.split, known.patient_of))
    if seen:
        named = ", ".join(seen[:MOST_NAMED]) + (", …" if len(seen) > MOST_NAMED else "")
        raise LunaError(
            f"{run.name}: has learnt from {len(seen)} patients of its validation folds {folds}: {named}; "
            "wanted nodules of patients that it has not seen"
        )
    return found


def judge(
    run: Run,
    nodules: Sequence[Implantable],
    share: Share,
    *,
    places: int,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Malignancy logits (N, places) and said diameters (N,) in mm, NaN without a head for them.

    Each nodule is set into as many places of the scans, in its own size. Where depends on the seed and its
    name alone. advance: is called with the number of nodules done since.
    """
    crops, shape = ImplantCrops([*share.scans, *share.hosts], nodules), run.data["shape_irc"]
    found = []
    with fast_inference(device):
        for start in range(0, len(nodules), NODULES_AT_ONCE):
            batch = range(start, min(start + NODULES_AT_ONCE, len(nodules)))
            drawn = []
            for item in batch:
                rng = np.random.default_rng([seed, _number_of(nodules[item].name)])
                drawn += [crops.draw(item, shape, rng).hu for _ in range(places)]
            verdict = run.model(torch.from_numpy(np.stack(drawn))[:, None].float().to(device))
            logit, log_mm = verdict.malignancy_logit.float(), verdict.log_diameter
            said = torch.full_like(logit, torch.nan) if log_mm is None else log_mm.float().exp()
            found.append(torch.stack([logit, said]).reshape(2, len(batch), places).cpu().numpy())
            advance(len(batch))
    logits, said_mm = np.concatenate(found, axis=1).astype(float)
    if not np.isfinite(logits).all():
        raise LunaError(f"{run.name}: answers with no number; wanted logits (damaged weights?)")
    return logits, said_mm.mean(axis=1)


def _number_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def check_each_once(work: Sequence[tuple[str, Sequence[tuple[Implantable, str]]]]) -> None:
    """Raise LunaError for a nodule that two of the runs, by name, judge."""
    judged_by: dict[str, str] = {}
    for run, own in work:
        for nodule, _ in own:
            if nodule.name in judged_by:
                raise LunaError(
                    f"{nodule.name}: judged by {judged_by[nodule.name]} and by {run}; "
                    "wanted each nodule once: runs of other data.validation_folds"
                )
            judged_by[nodule.name] = run


def pooled(
    nodules: Sequence[Sequence[tuple[Implantable, str]]],
    opinions: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> Judged:
    """The nodules of all runs, with their patients, and what is held of them."""
    everyone = [one for own in nodules for one in own]
    return Judged(
        name=[nodule.name for nodule, _ in everyone],
        patient=[patient for _, patient in everyone],
        run=np.repeat(np.arange(len(nodules)), [len(own) for own in nodules]),
        diameter_mm=np.array([nodule.diameter_mm for nodule, _ in everyone]),
        rating=np.array([nodule.malignancy for nodule, _ in everyone], float),
        logits=np.concatenate([logits for logits, _ in opinions]),
        said_mm=np.concatenate([said for _, said in opinions]),
    )
