"""What a segmentation proposes in many scans: the same for `luna mine` and `luna crossval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import Stages

if TYPE_CHECKING:
    import torch

    from p2ch_luna.datasets.collection import Known
    from p2ch_luna.datasets.sources import ScanSource
    from p2ch_luna.findings import Candidate
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.training.lineage import Split


@dataclass(frozen=True)
class Miner:
    """A trained segmentation, and who it trained on."""

    weights: Path
    split: Split

    def trained_on(self, known: Known) -> set[str]:
        """The patients of its training sides, those of the network that it began as too."""
        from p2ch_luna.training.lineage import learnt_from

        return learnt_from(self.split, known.patient_of)


def propose(
    known: Known,
    work: Sequence[tuple[ScanSource, Miner]],
    device: torch.device,
    cache: ScanCache,
    stages: Stages,
    threshold: float | None = None,
) -> list[Candidate]:
    """Labelled candidates of every scan; a line for each on stderr.

    threshold: of a voxel that may belong to a nodule; None: that of the diagnosis.
    """
    from p2ch_luna.datasets.candidates import label_candidates
    from p2ch_luna.datasets.sources import ScanError, prepare_source
    from p2ch_luna.inference.detector import propose_candidates
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.inference.propose import DEFAULT_PROPOSAL
    from p2ch_luna.models.checkpoint import load_model

    weights = dict.fromkeys(miner.weights for _, miner in work)
    models = {path: ready(load_model(path, device, "segmentation_unet")[0], device) for path in weights}
    settings = DEFAULT_PROPOSAL if threshold is None else replace(DEFAULT_PROPOSAL, threshold=threshold)
    stages.stage("proposing", len(work))
    found: list[Candidate] = []
    for scan, miner in work:
        uid = scan.series_uid
        stages.advance()
        try:
            prepared = prepare_source(scan, cache).load()
        except ScanError as error:
            click.echo(f"luna: warning: {error}; left out", err=True)
            continue
        candidates = propose_candidates(models[miner.weights], prepared, device, settings)
        labelled = label_candidates(candidates, known.nodules.get(uid, ()), known.unsure.get(uid, ()))
        n_nodules = sum(bool(c.is_nodule) for c in labelled)
        click.echo(f"{uid}: {n_nodules} nodules, {len(labelled) - n_nodules} others", err=True)
        found += labelled
    return found
