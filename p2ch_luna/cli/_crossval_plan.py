"""What `luna crossval` is to do: its folds and configs, and what is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.config import RunConfig
    from p2ch_luna.datasets.collection import Known
    from p2ch_luna.datasets.sources import ScanSource

SEGMENTATION, NODULE = "segmentation", "nodule"  # stages, and the folders of their runs
CANDIDATES = "candidates.csv"  # of the scans that train
HELD_OUT_CANDIDATES = "candidates-held-out.csv"  # the nodule run validates on them, and never trains
SAME_SCANS = ("luna16", "scans", "annotations", "excluded")  # keys of both configs' [data]


@dataclass(frozen=True, eq=False)
class Crossval:
    """What stays the same over the folds.

    configs: by stage, as given.    known: by stage, the scans of its config.
    """

    out: Path
    folds: tuple[int, ...]
    configs: Mapping[str, RunConfig]
    known: Mapping[str, Known]

    def folder(self, fold: int) -> Path:
        """Where all of a fold lies."""
        return self.out / f"fold-{fold}"

    def config_of(self, stage: str, fold: int) -> RunConfig:
        """The stage's config in this fold's turn."""
        from p2ch_luna.config import check_config
        from p2ch_luna.datasets.heldout import train_folds

        tables: dict[str, Any] = self.configs[stage].model_dump(mode="json")
        tables["data"]["train_folds"] = train_folds(self.folds, fold)
        tables["data"]["validation_folds"] = [fold]
        folder = self.folder(fold)
        if stage == NODULE:
            tables["data"]["candidates"] = [str(folder / name) for name in (CANDIDATES, HELD_OUT_CANDIDATES)]
            tables["validation"]["segmentation"] = str(folder / SEGMENTATION)
        return check_config(tables, f"fold {fold}: {stage}")

    def held_out(self, fold: int) -> list[ScanSource]:
        """The annotated scans that this fold is judged by."""
        from p2ch_luna.datasets.heldout import held_out

        return held_out(self.known[SEGMENTATION], fold)


def make_plan(
    segmentation: Path, nodule: Path | None, folds: tuple[int, ...], overrides: Sequence[str], out: Path
) -> Crossval:
    """Read the configs and the tables, and refuse before any training what could not be judged."""
    configs = {SEGMENTATION: _config(segmentation, SEGMENTATION, overrides)}
    if nodule is not None:
        configs[NODULE] = _config(nodule, NODULE, overrides)
        _check_same_scans(configs, nodule)
    known = _known(configs, folds)
    plan = Crossval(out, folds, configs, known)
    for stage, config in configs.items():
        _check_unseen(config, known[SEGMENTATION], folds)
        for fold in folds:
            plan.config_of(stage, fold)
    named = ", ".join(map(str, folds))
    click.echo(
        f"data.train_folds and data.validation_folds: replaced, each of {named} validates once", err=True
    )
    if NODULE in configs:
        click.echo(
            "data.candidates and validation.segmentation of the nodule config: replaced by each fold's own",
            err=True,
        )
    return plan


def _config(path: Path, stage: str, overrides: Sequence[str]) -> RunConfig:
    """A stage's config, with the changes that are for both or for this one."""
    from p2ch_luna.config import load_config

    mine = []
    for override in overrides:
        prefix, colon, rest = override.partition(":")
        if colon and prefix in (SEGMENTATION, NODULE):
            mine += [rest] if prefix == stage else []
        else:
            mine.append(override)
    config = load_config(path, mine)
    if config.task != stage:
        raise LunaError(
            f"{path}: task = {config.task!r}; wanted {stage!r}: luna crossval SEGMENTATION NODULE"
        )
    return config


def _check_same_scans(configs: Mapping[str, RunConfig], nodule: Path) -> None:
    for key in SAME_SCANS:
        found, wanted = (getattr(configs[stage].data, key) for stage in (NODULE, SEGMENTATION))
        if found != wanted:
            raise LunaError(
                f"{nodule}: data.{key} = {found!r}; wanted {wanted!r}, as in the segmentation's config: both "
                "learn from and are judged by the same scans"
            )


def _known(configs: Mapping[str, RunConfig], folds: Sequence[int]) -> dict[str, Known]:
    """The scans of each config, without candidates; LunaError where the folds are no cross-validation."""
    from p2ch_luna.datasets.collection import Sources, read_known
    from p2ch_luna.datasets.heldout import check_folds_apart, in_several

    found = {}
    for stage, config in configs.items():
        found[stage] = read_known(replace(Sources(**config.data.sources()), candidates=()))
        check_folds_apart(found[stage], folds)
    if several := in_several(found[SEGMENTATION], folds):
        click.echo(f"scans in several folds, so in no training of these: {', '.join(several)}", err=True)
    return found


def _check_unseen(config: RunConfig, known: Known, folds: Sequence[int]) -> None:
    """Raise LunaError for weights to begin with that have learnt from who is held out."""
    from p2ch_luna.datasets.heldout import held_out, patients_of
    from p2ch_luna.models.checkpoint import load_card, weights_at
    from p2ch_luna.training.lineage import checked, seen_by

    if not (named := config.start.init_from):
        return
    scans = [scan for fold in folds for scan in held_out(known, fold)]
    judged = {
        "validation": sorted(patients_of(known, scans)),
        "validation scans": [scan.series_uid for scan in scans],
    }
    weights = weights_at(Path(named))
    if seen := seen_by(checked(weights, load_card(weights).split), judged):
        raise LunaError(
            f"start.init_from = {named}: trained on {seen}; wanted weights that know nobody of --folds"
        )
