"""How *Deep Learning with PyTorch*, part 2, reads its crops: to be measured against, and for nothing else."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import diskcache
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.geometry import CtVolume, crop_around
from p2ch_luna.io.candidate_table import CandidateTable

SHARDS = 64


class BookSample(NamedTuple):
    """One crop."""

    hu: Tensor  # (1, D, H, W) float32


@dataclass(frozen=True, eq=False)
class BookCrops(Dataset[BookSample]):
    """Crops of original voxels, pickled, gzipped and kept in a diskcache in `folder`.

    A crop that is not there yet is cut out of its scan, of which a process holds one as float32.
    """

    sources: Sequence[ScanSource]
    places: CandidateTable
    shape_irc: Sequence[int]
    folder: Path

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> BookSample:
        cache = _cache(self.folder)
        packed = cache.get(i)
        if packed is None:
            packed = gzip.compress(pickle.dumps(self._cut(i)), compresslevel=1)
            cache.set(i, packed)
        return BookSample(torch.from_numpy(pickle.loads(gzip.decompress(packed)))[None])

    def _cut(self, i: int) -> NDArray[np.float32]:
        uid = self.places.series_uids[self.places.series[i]]
        ct = _read(next(source for source in self.sources if source.series_uid == uid))
        crop = crop_around(ct.hu, ct.geometry.to_irc(self.places.center_xyz[i]), self.shape_irc)
        return crop.astype(np.float32, copy=False)


@lru_cache(maxsize=1)
def _cache(folder: Path) -> diskcache.FanoutCache:
    return diskcache.FanoutCache(str(folder), shards=SHARDS)


@lru_cache(maxsize=1)
def _read(source: ScanSource) -> CtVolume:
    ct = source.read()
    return CtVolume(ct.series_uid, ct.hu.astype(np.float32), ct.geometry)
