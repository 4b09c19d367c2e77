"""What LIDC's readers thought of LUNA16's nodules, at once: `lidc_matching` takes seconds for all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from p2ch_luna.findings import Nodule
from p2ch_luna.io.lidc_tables import SHIPPED
from p2ch_luna.io.tables import read_nodules

TABLE = "luna16_ratings.csv"  # written by scripts/build_luna16_ratings.py
SAME_MM = 0.1  # between centres that are one: LUNA16's list may have been rounded on its way


def with_ratings(nodules: Sequence[Nodule]) -> list[Nodule]:
    """The same nodules; those of LUNA16's list have LIDC's mean ratings where they have none of their own."""
    return [_with_rating(nodule) for nodule in nodules]


def _with_rating(nodule: Nodule) -> Nodule:
    for known in _by_scan().get(nodule.series_uid, ()):
        if math.dist(known.center_xyz, nodule.center_xyz) < SAME_MM:
            own = nodule.malignancy, nodule.texture
            malignancy, texture = (
                theirs if given is None else given
                for given, theirs in zip(own, (known.malignancy, known.texture), strict=True)
            )
            return replace(nodule, malignancy=malignancy, texture=texture)
    return nodule


@lru_cache(maxsize=1)
def _by_scan() -> dict[str, list[Nodule]]:
    of_scan = defaultdict(list)
    for nodule in read_nodules(SHIPPED / TABLE):
        of_scan[nodule.series_uid].append(nodule)
    return dict(of_scan)
