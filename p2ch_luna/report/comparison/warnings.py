"""What makes a comparison of two scans doubtful."""

from __future__ import annotations

from collections.abc import Iterator

from p2ch_luna.report.comparison.pairs import Both
from p2ch_luna.report.schema import Report

MUCH_COARSER = 1.8  # times the spacing of the slices


def warnings_of(both: Both) -> Iterator[str]:
    """Each in a line for the user."""
    prior, current = both.prior, both.current
    if prior.scan.series_uid == current.scan.series_uid and prior.scan.format == "dicom":
        yield "both reports are of the same series: nothing can have changed"
    if both.is_poor:
        yield (
            f"the lungs agree poorly (correlation {both.alignment.correlation:.2f}, overlap "
            f"{both.alignment.overlap:.2f}): of another patient, of another breath, or changed by disease; "
            "growth is not judged"
        )
    if _networks(prior) != _networks(current):
        yield "the scans were searched by different networks: sizes and findings differ for that alone"
    before, now = (report.settings.finding_threshold for report in (prior, current))
    if before != now:
        yield f"findings begin at probability {before:.3g} in the prior scan and at {now:.3g} in the current"
    yield from _spacings(prior, current)


def _networks(report: Report) -> dict[str, str]:
    return {model.stage: model.weights_sha256 for model in report.models}


def _spacings(prior: Report, current: Report) -> Iterator[str]:
    before, now = (max(report.scan.spacing_xyz_mm) for report in (prior, current))
    if max(before, now) > MUCH_COARSER * min(before, now):
        yield (
            f"voxels are up to {before:.3g} mm long in the prior scan and {now:.3g} in the current: sizes "
            "differ for that alone"
        )
