"""Write data/lidc/luna16_ratings.csv: LUNA16's nodules with what LIDC's readers thought of them.

usage: build_luna16_ratings.py [LUNA16] [--output data/lidc/luna16_ratings.csv]

Matching all nodules with the readers' outlines takes seconds; the table spares them each time. LUNA16 is a
folder with annotations.csv and annotations_excluded.csv (default: ../shared/data/luna16).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from p2ch_luna.datasets.catalogue import find_lists
from p2ch_luna.datasets.lidc_matching import Accounted, Evidence, match_all
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import read_nodules, write_nodules
from p2ch_luna.io.lidc_tables import load_lidc_tables


def main() -> None:
    """Match, write, and say how many were rated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("luna16", type=Path, nargs="?", default=Path("../shared/data/luna16"))
    parser.add_argument("--output", type=Path, default=Path("data/lidc/luna16_ratings.csv"))
    options = parser.parse_args()
    lists = find_lists(options.luna16)
    if lists.annotations is None or lists.excluded is None:
        raise LunaError(f"{options.luna16}: expected annotations.csv and annotations_excluded.csv in it")
    evidence = Evidence(excluded=read_nodules(lists.excluded))
    rated = [_rated(a) for a in match_all(load_lidc_tables(), read_nodules(lists.annotations), evidence)]
    write_nodules(options.output, rated)
    print(f"{options.output}: {sum(n.texture is not None for n in rated)} of {len(rated)} nodules rated")


def _rated(accounted: Accounted) -> Nodule:
    finding = accounted.match.finding
    if finding is None:
        return accounted.match.nodule
    ratings = finding.ratings
    return replace(accounted.match.nodule, malignancy=ratings.malignancy, texture=ratings.texture)


if __name__ == "__main__":
    try:
        main()
    except LunaError as error:
        sys.exit(f"build_luna16_ratings.py: error: {error}")
