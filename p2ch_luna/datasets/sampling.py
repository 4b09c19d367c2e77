"""Which sample comes when: each source by its share, every item of a source before any comes again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

_ITEMS, _SOURCES = 0, 1  # what a random stream is for


class Pick(NamedTuple):
    """One sample, said in full: a data set makes the same of it in any process, at any time."""

    source: int
    item: int  # of the source
    seed: tuple[int, int, int]  # of the run, epoch, index in the epoch: all randomness comes from these

    def rng(self) -> np.random.Generator:
        """The random numbers of this sample alone."""
        return np.random.default_rng(self.seed)


class BalancedSampler(Sampler[Pick]):
    """Endless in epochs, exact in shares; the order depends on the seed and the epoch alone.

    lengths, shares: of each source; a source of a share above 0 must not be empty.
    In an epoch of n samples a source has n times its share of them, rounded by largest remainder.
    """

    def __init__(self, lengths: Sequence[int], shares: Sequence[float], n_samples: int, seed: int) -> None:
        if any(share > 0 and not length for length, share in zip(lengths, shares, strict=True)):
            raise ValueError(f"a share above 0 of an empty source: lengths {lengths}, shares {shares}")
        self.lengths = tuple(lengths)
        self.counts = exact_counts(shares, n_samples)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Before an epoch is begun, or gone on with after an interruption."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Pick]:
        items = [self._items(source) for source in range(len(self.counts))]
        order = np.repeat(np.arange(len(self.counts)), self.counts)
        self._rng(_SOURCES, self.epoch).shuffle(order)
        for index, source in enumerate(order.tolist()):
            yield Pick(source, next(items[source]), (self.seed, self.epoch, index))

    def _items(self, source: int) -> Iterator[int]:
        """The items of one source in this epoch: it goes on where the epoch before has stopped."""
        length, first = self.lengths[source], self.epoch * self.counts[source]
        for drawn in range(first, first + self.counts[source]):
            if drawn == first or drawn % length == 0:
                order: NDArray[np.int64] = self._rng(_ITEMS, source, drawn // length).permutation(length)
            yield int(order[drawn % length])

    def _rng(self, *purpose: int) -> np.random.Generator:
        """Random numbers that no sample has: a spawn key is told apart from a seed of several numbers."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=purpose))


class Batches(Sampler[list[Pick]]):
    """The picks of one process among `size`, batch by batch; all processes together make each batch once.

    dealt: a batch is dealt out to the processes, pick by pick: each trains on a part of every batch. Else
    whole batches are dealt out: what is computed of a sample does not depend on the number of processes.
    first: the batches before are left out, as a resumed epoch has them behind it.
    """

    def __init__(
        self, sampler: BalancedSampler, batch_size: int, rank: int = 0, size: int = 1, *, dealt: bool
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.rank, self.size = rank, size
        self.dealt = dealt
        self.first = 0

    def __len__(self) -> int:
        batches = range(-(-len(self.sampler) // self.batch_size))
        return len(batches[self.first :] if self.dealt else batches[self.first + self.rank :: self.size])

    def __iter__(self) -> Iterator[list[Pick]]:
        picks = list(self.sampler)
        starts = range(0, len(picks), self.batch_size)[self.first :]
        batches = (picks[start : start + self.batch_size] for start in starts)
        if self.dealt:
            yield from (batch[self.rank :: self.size] for batch in batches)
        else:
            yield from list(batches)[self.rank :: self.size]


def exact_counts(shares: Sequence[float], n: int) -> tuple[int, ...]:
    """Whole numbers in the proportion of the shares, `n` in all (largest remainders)."""
    wanted = np.asarray(shares, float) / np.sum(shares) * n
    counts = np.floor(wanted + 1e-9).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: n - counts.sum()]] += 1
    return tuple(counts.tolist())
