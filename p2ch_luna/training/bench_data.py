"""How fast training data come, from a scan's file to a batch on its device, measured on one machine."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch.amp.grad_scaler import GradScaler
from torch.utils.data import DataLoader, Dataset

from p2ch_luna.datasets.augment import Augmentation, apply, draw
from p2ch_luna.datasets.collection import Share, cut_out
from p2ch_luna.datasets.implant import AS_IT_IS
from p2ch_luna.datasets.patches import pick
from p2ch_luna.datasets.preparation import Prepared, prepare_all
from p2ch_luna.datasets.sampling import BalancedSampler
from p2ch_luna.datasets.scans import LabelledScan, load_scan
from p2ch_luna.io.candidate_table import CandidateTable
from p2ch_luna.io.scan_cache import ScanCache, Storage
from p2ch_luna.models.precision import on_device
from p2ch_luna.models.unet import SegmentationUNet
from p2ch_luna.training.bench_scans import Bench
from p2ch_luna.training.book import BookCrops
from p2ch_luna.training.loop import Objective, Rules, seed_step, train_epoch
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.segmentation import SegmentationLosses, augment_patches, counts, totals
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Stop
from p2ch_luna.training.tasks import TASKS
from p2ch_luna.training.world import World

PATCH, CROP, BOOK_CROP = (64, 64, 64), (48, 48, 48), (32, 48, 48)
BATCH = 16
PATCH_BOUND_MS: Mapping[Storage, float] = {"blosc2": 2.0, "raw": 0.3}

# Shares of samples as in configs/luna16.toml and, for the classifier, half nodules and half others.
PATCH_MIX = {"nodules": 0.4, "candidates": 0.2, "lung": 0.1, "implants": 0.3}
CROP_MIX = {"nodules": 0.25, "implants": 0.25, "candidates": 0.4, "lung": 0.1}
CANDIDATES = {"candidates": 1.0}


@dataclass(frozen=True)
class Figure:
    """One line of the table; `bound` is what it should not exceed, or not fall below if `at_least`."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def measure(
    bench: Bench, folder: Path, stage: Callable[[str], None], n_batches: int = 2000
) -> Iterator[Figure]:
    """Every figure in turn; caches are made in `folder`. The bounds are those of scans of LUNA16's size."""
    shares: dict[Storage, Share] = {}
    storages: Sequence[Storage] = get_args(Storage)
    for storage in storages:
        stage(f"preparing {len(bench.sources)} scans, {storage}")
        shares[storage], figures = _prepared(bench, folder, storage)
        yield from figures
    for storage in storages:
        stage(f"patches, {storage}")
        bound = {"blosc2": 2.0, "raw": 0.3}[storage]
        yield Figure(
            f"a random 64³ patch, {storage}", 1e3 * _patch_seconds(shares[storage].scans), "ms", bound
        )
    stage("classifier crops")
    yield from _crop_figures(bench, shares, folder)
    stage("augmentation")
    yield from _augmentation_figures()
    for storage in storages:
        stage(f"memory of a worker over {n_batches} batches, {storage}")
        yield from _memory_figures(shares[storage], storage, n_batches)
    stage("training steps")
    yield _waiting_figure(shares["blosc2"])


def median_seconds(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median time of each, taken in turns after once for warming up: a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def _prepared(bench: Bench, folder: Path, storage: Storage) -> tuple[Share, list[Figure]]:
    """All scans, labelled, with nodules to set in and candidates, as a training loads them."""
    cache = ScanCache(folder / storage, storage)
    outcomes = list(prepare_all(bench.sources, cache, workers=1))  # in a process of its own, as a user does
    seconds = [outcome.seconds for outcome in outcomes if isinstance(outcome, Prepared) and outcome.seconds]
    own = {source.series_uid: [n for n in bench.nodules if n.series_uid == source.series_uid]
           for source in bench.sources}  # fmt: skip
    scans = [load_scan(source, cache, own[source.series_uid]) for source in bench.sources]
    megabytes = np.mean([entry.n_bytes for entry in cache.entries()]) / 1e6
    share = Share(scans, [], cut_out(scans), [], _candidates(scans), frozenset())
    return share, [
        Figure(f"prepare a scan on one core, {storage}", float(np.median(seconds)), "s", 4.0),
        Figure(f"a prepared scan, {storage}", float(megabytes), "MB", 20.0 if storage == "blosc2" else None),
    ]


def _candidates(scans: Sequence[LabelledScan], count: int = 600) -> CandidateTable:
    """Random places in the lungs, sorted by scan, as the book reads them first: its best case."""
    rng = np.random.default_rng(1)
    series = np.sort(rng.integers(len(scans), size=count)).astype(np.int32)
    xyz = [scans[k].geometry.to_xyz(scans[k].random_place(rng)) for k in series]
    uids = tuple(scan.series_uid for scan in scans)
    return CandidateTable(uids, series, np.array(xyz), np.zeros(count, bool))


def _patch_seconds(scans: Sequence[LabelledScan], repeats: int = 1000) -> float:
    rng = np.random.default_rng(0)

    def patch() -> None:
        scan = pick(scans, rng)
        scan.crop_hu(scan.random_place(rng), PATCH)

    return median_seconds({"patch": patch}, repeats)["patch"]


def _crop_figures(bench: Bench, shares: Mapping[Storage, Share], folder: Path) -> Iterator[Figure]:
    """Crops a second with two workers: of candidates, beside the book's way, and as a training mixes them."""
    book = BookCrops(bench.sources, shares["raw"].candidates, BOOK_CROP, folder / "book")
    first, cached = (_rate(book, range(len(book))) for _ in range(2))
    yield Figure("the book's 32x48x48 crops, 2 workers, first pass", first, "a second")
    yield Figure("the book's 32x48x48 crops, 2 workers, cached", cached, "a second")
    for storage, share in shares.items():
        rate, mixed = (_rate(*_samples("nodule", share, mix, CROP, 4000)) for mix in (CANDIDATES, CROP_MIX))
        yield Figure(f"48³ crops of candidates, 2 workers, {storage}", rate, "a second", 300.0, at_least=True)
        yield Figure("… against the book's way, first pass", rate / first, "times", 10.0, at_least=True)
        yield Figure("… against the book's way, cached", rate / cached, "times", 10.0, at_least=True)
        yield Figure(
            f"… with nodules, half of them implanted, {storage}", mixed, "a second", 300.0, at_least=True
        )


def _samples(
    task: str, share: Share, mix: Mapping[str, float], shape: Sequence[int], count: int
) -> tuple[Dataset[Any], BalancedSampler]:
    """Of any mix: what is measured here trains nothing, and may be without nodules."""
    sources = TASKS[task].sources(share, AS_IT_IS)
    sampler = BalancedSampler([len(sources[name]) for name in mix], list(mix.values()), count, seed=0)
    return TASKS[task].dataset([sources[name] for name in mix], shape), sampler


def _rate(dataset: Any, sampler: Any, workers: int = 2) -> float:
    """Samples a second, without the start of the workers: the clock starts at the first batch."""
    batches = iter(DataLoader(dataset, batch_size=BATCH, sampler=sampler, num_workers=workers))
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[0])
    return count / (time.perf_counter() - start)


def _augmentation_figures() -> Iterator[Figure]:
    """Against one plain resampling of the same batch, its grid given."""
    generator = torch.Generator().manual_seed(0)
    hu = torch.randn(BATCH, 1, *PATCH, generator=generator) * 300 - 700
    labels = (hu > 0).to(torch.uint8)
    turned = torch.eye(3, 4).repeat(BATCH, 1, 1) + 0.05 * torch.randn(BATCH, 3, 4, generator=generator)
    grid = F.affine_grid(turned, [BATCH, 1, *PATCH], align_corners=False)
    how = Augmentation()
    took = median_seconds(
        {
            "plain": lambda: F.grid_sample(hu, grid, align_corners=False),
            "alone": lambda: apply(hu, None, draw(BATCH, how, generator)),
            "labelled": lambda: apply(hu, labels, draw(BATCH, how, generator)),
        },
        21,
    )
    yield Figure("one grid_sample of (16, 1, 64, 64, 64)", 1e3 * took["plain"], "ms")
    yield Figure("augmentation of it", 1e3 * took["alone"], "ms")
    yield Figure("… against the grid_sample", took["alone"] / took["plain"], "times", 2.0)
    yield Figure("… with its labels", took["labelled"] / took["plain"], "times")


def _memory_figures(share: Share, storage: Storage, n_batches: int) -> Iterator[Figure]:
    """Of one worker that makes patches of nodules, candidates and implants; its growth after the start."""
    dataset, sampler = _samples("segmentation", share, PATCH_MIX, PATCH, 4 * n_batches)
    batches = iter(DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1))
    (worker,) = multiprocessing.active_children()
    own = []
    for number, _ in enumerate(batches):
        if number in (n_batches // 5, n_batches - 10):
            own.append(megabytes(worker.pid, "smaps_rollup", "Private_Clean", "Private_Dirty"))
            peak = megabytes(worker.pid, "status", "VmHWM")
    yield Figure(f"highest memory of a worker, {storage}", peak, "MB", 600.0)
    yield Figure(f"growth of its own memory over {n_batches} batches, {storage}", own[1] - own[0], "MB", 10.0)


def megabytes(pid: int | None, file: str, *keys: str) -> float:
    """The sum of some of the kernel's figures of a process (Linux)."""
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(keys)) / 1e3


def _waiting_figure(share: Share, steps: int = 40) -> Figure:
    """The share of the time in which the training of the segmentation waits for its one worker."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = on_device(SegmentationUNet(), device)
    optimizer = make_optimizer(model, 1e-3, 1e-2)
    dataset, sampler = _samples("segmentation", share, PATCH_MIX, PATCH, 4 * steps)
    how = SegmentationLosses()
    result = train_epoch(
        model,
        DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=1),
        Objective(lambda batch: counts(batch, how), lambda logit, batch: totals(logit, batch, how)),
        State(model, None, optimizer, warmup_cosine(optimizer, 1, steps), GradScaler(enabled=False)),
        Rules(clip_norm=1.0),
        World(device),
        prepare=lambda batch, step: augment_patches(batch, draw(4, Augmentation(), seed_step(0, step, 0))),
        on_step=lambda _: None,
        stop=Stop(),
    )
    if result is None:
        raise RuntimeError("nobody has asked to stop")
    return Figure("training waits for data", 100 * result.waiting_share, "% of the time", 5.0)
