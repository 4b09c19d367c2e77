"""On what a figure of a card was taken, in words, and what the files that bring figures share."""

from __future__ import annotations

from collections.abc import Sequence

from p2ch_luna.io.lidc_tables import load_lidc_tables
from p2ch_luna.report.benchmark.schema import RATES, HostInput, Inputs, Settings, Share

FP_PER_SCAN = RATES[-1]  # at which groups and variants are judged
WEAK = 0.7  # a lower sensitivity is a failure, whatever the others are
FEWEST = 5  # nodules of a group that is judged: of fewer nothing is known
BY = "; searched by "  # what follows names the networks: figures of other ones on the same scans are older
TOO_NARROW = (  # of the intervals that are not of hosts drawn anew
    "95% intervals of groups, variants and AUCs take nodules and candidates as independent, those of further "
    "sets in the same CT too: they are too narrow"
)
_SEARCHES = ("luna benchmark", "luna robustness")  # commands whose figures are of the joint score
_TELLING = ("has learnt from", "are interpolated")  # of the warnings, those that weaken the figures

Named = tuple[str, float, tuple[float, float] | None]  # a figure and its interval


def conditions_text(
    nodules: str, inputs: Inputs, chosen: Settings, command: str, warnings: Sequence[str]
) -> str:
    """Which nodules in which scans, by which command, and by which networks they were searched.

    nodules: how many, and what else is known of them.
    """
    names = ", ".join(map(host_name, inputs.hosts))
    folds = ", ".join(map(str, chosen.folds))
    telling = "".join(f"; {text}" for text in warnings if any(sign in text for sign in _TELLING))
    joined = {"calibration": inputs.calibration} if inputs.calibration else {}
    networks = ", ".join(f"{stage} {sha256[:8]}" for stage, sha256 in (inputs.models | joined).items())
    return (
        f"{nodules} of {chosen.min_diameter_mm:g} to {chosen.max_diameter_mm:g} mm, of patients of folds "
        f"{folds}, set into {len(inputs.hosts)} CT(s) ({names}), {chosen.copies} set(s) each, seed "
        f"{chosen.seed}, by {command}{telling}; {TOO_NARROW}{BY}{networks}"
    )


def without_networks(on: str) -> str:
    """The conditions whatever the networks are."""
    return on.partition(BY)[0]


def is_of_search(told: str) -> bool:
    """Whether conditions, or a failure that ends with them, are those of a search with both networks."""
    return BY in told and any(f", by {command}" in told for command in _SEARCHES)


def host_name(host: HostInput) -> str:
    """LIDC's name of the patient, else that of the file."""
    return load_lidc_tables().patient_of(host.series_uid) or host.name


def judged(shares: Sequence[Share]) -> Share:
    """The one at FP_PER_SCAN."""
    return next(share for share in shares if share.fp_per_scan == FP_PER_SCAN)
