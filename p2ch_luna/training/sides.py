"""The two sides of a split: what trains, what validates, and the batches of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from p2ch_luna.datasets.collection import Share, Sources, check_sides, load_share, read_known
from p2ch_luna.datasets.fold_check import check_folds
from p2ch_luna.datasets.implant import AS_IT_IS, Variety
from p2ch_luna.datasets.sampling import Batches
from p2ch_luna.datasets.splits import N_FOLDS
from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.training.stop import leave_signals_to_trainer
from p2ch_luna.training.tasks import Task, make_samples
from p2ch_luna.training.world import World

VALIDATION_BATCH = 16  # samples at most: one process computes it in one piece
VALIDATION_SEED = 20_000  # away from any training seed; the same samples in every epoch and run


@dataclass(frozen=True, eq=False)
class Sides:
    """What trains and what validates; nobody's nodules do both, a host without may be behind both."""

    train: Share
    validation: Share
    folds: Mapping[str, Sequence[int]]  # of each

    def split(self) -> dict[str, list[str]]:
        """Who trained and who validated: patients, series uids of annotated scans and of hosts."""
        found = {}
        for side, share in (("train", self.train), ("validation", self.validation)):
            found[side] = sorted(share.patients)
            found[f"{side} scans"] = [scan.series_uid for scan in share.scans]
            found[f"{side} hosts"] = [scan.series_uid for scan in share.hosts]
        rest = set(range(N_FOLDS)) - {fold for folds in self.folds.values() for fold in folds}
        found["untouched folds"] = [str(fold) for fold in sorted(rest)]
        return found


@dataclass(frozen=True, eq=False)
class Samples:
    """Batches of one side of the split, and what picks them."""

    batches: DataLoader[Any]
    picks: Batches

    def go_to(self, epoch: int, step_in_epoch: int = 0) -> None:
        """The next pass is of this epoch, without the batches that it has behind it."""
        self.picks.sampler.set_epoch(epoch)
        self.picks.first = step_in_epoch


def load_sides(
    sources: Sources,
    folds: Mapping[str, Sequence[int]],
    cache: ScanCache,
    on_item: Callable[[str], None],
    world: World,
) -> Sides:
    """Load both sides, "train" and "validation", the main process first, so that it prepares for all.

    Raises LunaError where a patient is on both sides, or a fold has nothing.
    """
    if not world.is_main:
        world.wait()
    known = read_known(sources)
    for side, named in folds.items():
        check_folds(known, named, f"data.{side}_folds")
    train, validation = (
        load_share(known, sources, named, cache, on_item, trains=side == "train")
        for side, named in folds.items()
    )
    check_sides(known, train, validation)
    if world.is_main:
        world.wait()
    return Sides(train, validation, folds)


def make_batches(
    task: Task,
    share: Share,
    sampling: Mapping[str, float],
    shape_irc: Sequence[int],
    *,
    n_samples: int,
    batch_size: int,
    workers: int,
    seed: int,
    trains: bool,
    world: World,
    variety: Variety = AS_IT_IS,
) -> Samples:
    """This process's part of the batches of one side; the validation's are the same in every epoch."""
    dataset, sampler = make_samples(
        task, share, sampling, shape_irc, n_samples, seed, trains=trains, variety=variety
    )
    picks = Batches(sampler, batch_size, world.rank, world.size, dealt=trains)
    batches = DataLoader(
        dataset,
        batch_sampler=picks,
        num_workers=workers,
        persistent_workers=trains and workers > 0,  # they keep their scans open
        pin_memory=world.device.type == "cuda",
        worker_init_fn=leave_signals_to_trainer,
    )
    return Samples(batches, picks)


def check_batch(batch_size: int, accumulate: int, processes: int) -> None:
    """Raise LunaError for a batch that cannot be dealt out evenly."""
    if batch_size % (processes * accumulate):
        raise LunaError(
            f"loop.batch_size = {batch_size} among {processes} processes in {accumulate} piece(s) each; "
            f"wanted a multiple of {processes * accumulate}: it counts the samples of all processes"
        )
