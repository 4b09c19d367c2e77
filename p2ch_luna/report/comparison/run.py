"""From two folders of `luna diagnose` to their comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from pydantic import ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Point
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.alignment import Alignment, align
from p2ch_luna.inference.alignment_views import LungView
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io import read_ct
from p2ch_luna.report.comparison.growth import DOUBLING_RULE, growth_of
from p2ch_luna.report.comparison.growth import RULE as GROWTH_RULE
from p2ch_luna.report.comparison.pairs import POOR_RULE, Both, Pair, find_pairs, is_covered, rejected_near
from p2ch_luna.report.comparison.pairs import RULE as PAIR_RULE
from p2ch_luna.report.comparison.schema import Compared, ComparedScan, Comparison, Registration, Sight, Status
from p2ch_luna.report.comparison.warnings import warnings_of
from p2ch_luna.report.outputs import LUNGS, REPORT
from p2ch_luna.report.schema import SCHEMA_VERSION, Finding, Report

WANTED = "wanted a folder that luna diagnose has written"
DISAGREE = "the lungs do not agree"
CUT_OFF = "an end of the scan cuts it off, so that its size is a lower bound"
ORDER = {status: rank for rank, status in enumerate(get_args(Status))}


class Diagnosed(NamedTuple):
    """What a folder of `luna diagnose` holds."""

    folder: Path
    report: Report
    lungs: CtVolume  # as `lung_picture` makes it


def compare(prior: Diagnosed, current: Diagnosed, days: int | None, progress: Progress) -> Comparison:
    """Lay the lungs over each other and say what became of each nodule in so many days, if that is known."""
    progress.stage("aligning")
    before, now = LungView(prior.lungs), LungView(current.lungs)
    alignment = align(before, now)
    progress.stage("comparing")
    both = Both(prior.report, current.report, before, now, alignment)
    return Comparison(
        prior=_scan(prior.report),
        current=_scan(current.report),
        days=days,
        registration=_registration(alignment),
        nodules=tuple(_nodules(both, days)),
        rules=(PAIR_RULE, GROWTH_RULE, DOUBLING_RULE, POOR_RULE),
        warnings=tuple(warnings_of(both)),
    )


def read_both(prior: Path, current: Path) -> tuple[Diagnosed, Diagnosed]:
    """Read two folders of `luna diagnose`.

    Raises LunaError where they are one folder, and for a folder without a report of this version or without
    the picture of the lungs.
    """
    if prior.resolve() == current.resolve():
        raise LunaError(f"{prior}: given as earlier and as later scan; wanted two folders")
    reports = [_read_report(folder) for folder in (prior, current)]
    earlier, later = (
        Diagnosed(folder, report, _read_lungs(folder, report))
        for folder, report in zip((prior, current), reports, strict=True)
    )
    return earlier, later


def _read_report(folder: Path) -> Report:
    path = folder / REPORT
    if not path.is_file():
        raise LunaError(f"{folder}: holds no {REPORT}; {WANTED}")
    try:
        text = path.read_text(encoding="utf-8")
        version = str(json.loads(text).get("schema_version"))
    except (OSError, ValueError, AttributeError) as error:
        raise LunaError(f"{path}: cannot be read as a report: {error}; {WANTED}") from error
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise LunaError(
            f"{path}: a report of version {version}; wanted {SCHEMA_VERSION}: run luna diagnose again"
        )
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LunaError(f"{path}: no whole report: {where}: {first['msg']}; {WANTED}") from error


def _read_lungs(folder: Path, report: Report) -> CtVolume:
    path = folder / LUNGS
    if LUNGS not in report.files:
        raise LunaError(f"{folder}: no lungs were found in this scan; wanted two scans of lungs")
    if not path.is_file():
        raise LunaError(f"{path}: not there, though {REPORT} names it; wanted it: run luna diagnose again")
    return read_ct(path)


def _nodules(both: Both, days: int | None) -> list[Compared]:
    """Matched ones by their growth, then the others, each by its rank."""
    expected = [both.in_current(finding.center_lps_mm) for finding in both.prior.findings]
    pairs = find_pairs(both, expected)
    found = [_matched(both, pair, expected[pair.prior], days) for pair in pairs]
    found += _new(both, {pair.current for pair in pairs})
    found += _vanished(both, {pair.prior for pair in pairs}, expected)
    return sorted(found, key=lambda nodule: (ORDER[nodule.status], -_change(nodule)))


def _matched(both: Both, pair: Pair, expected: Point, days: int | None) -> Compared:
    before, now = both.prior.findings[pair.prior], both.current.findings[pair.current]
    reason = DISAGREE if both.is_poor else CUT_OFF if before.is_cut_off or now.is_cut_off else ""
    return Compared(
        status="matched",
        prior=_sight(before),
        current=_sight(now),
        expected_lps_mm=expected,
        distance_mm=pair.distance_mm,
        growth=None if reason else growth_of(before, now, days),
        remark=f"not judged: {reason}" if reason else "",
    )


def _change(nodule: Compared) -> float:
    return nodule.growth.diameter_mm if nodule.growth else 0.0


def _new(both: Both, paired: set[int]) -> Iterator[Compared]:
    for number, finding in enumerate(both.current.findings):
        if number not in paired:
            place = both.in_prior(finding.center_lps_mm)
            yield _alone(both, both.prior, finding, place)


def _vanished(both: Both, paired: set[int], expected: list[Point]) -> Iterator[Compared]:
    for number, finding in enumerate(both.prior.findings):
        if number not in paired:
            yield _alone(both, both.current, finding, expected[number])


def _alone(both: Both, other: Report, finding: Finding, place: Point) -> Compared:
    """A finding with none to match in the other report, where its place is `place`."""
    is_new = other is both.prior
    status, remark = _status_alone(both, other, finding, place)
    return Compared(
        status=status,
        prior=None if is_new else _sight(finding),
        current=_sight(finding) if is_new else None,
        expected_lps_mm=place,
        distance_mm=None,
        growth=None,
        remark=remark,
    )


def _status_alone(both: Both, other: Report, finding: Finding, place: Point) -> tuple[Status, str]:
    """What became of such a finding, and the remark on it."""
    is_new = other is both.prior
    if both.is_poor:  # then nobody knows what the other scan shows at its place
        return "not judged", DISAGREE
    seen = rejected_near(both, other, place, finding)
    if is_covered(other.scan, place, finding.mean_diameter_mm):
        return "new" if is_new else "vanished", seen
    return "not covered", seen or f"outside the {'prior' if is_new else 'current'} scan"


def _sight(finding: Finding) -> Sight:
    return Sight.model_validate({name: getattr(finding, name) for name in Sight.model_fields})


def _scan(report: Report) -> ComparedScan:
    return ComparedScan(
        name=report.scan.name, series_uid=report.scan.series_uid, findings=len(report.findings)
    )


def _registration(alignment: Alignment) -> Registration:
    rotation = alignment.to_current.rotation
    x_row, y_row, z_row = ((float(a), float(b), float(c)) for a, b, c in rotation)
    x, y, z = alignment.to_current.shift_xyz.tolist()
    turned = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    return Registration(
        rotation=(x_row, y_row, z_row),
        shift_lps_mm=(x, y, z),
        turned_degrees=turned,
        overlap=alignment.overlap,
        correlation=alignment.correlation,
        surface_mm=alignment.surface_mm,
    )
