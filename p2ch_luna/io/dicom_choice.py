"""Which DICOM series of a folder is read, and why.

Only a CT series whose slices make a whole, even stack can be read. Of several, the first of these rules on
which two differ decides:

1. axial slices before oblique, coronal and sagittal ones;
2. the chest, also with a neck or an abdomen, or a part of the body that is not told, before a head, …;
3. images as they were reconstructed before derived ones, and those before projections (MIP, …);
4. a series that covers most of the body's length that there is, 300 mm at most being asked for;
5. slices of up to 1.5 mm before those of up to 2.5 mm, up to 5 mm, and thicker ones;
6. a soft or standard kernel before a sharp one, which was made for looking at lungs or bones, and is noisy;
7. thinner slices, down to 0.6 mm; then more images; then the lower series number.

A slice counts as thick as it is, or as far as it lies from the next, whichever is more. A kernel is sharp if
it is named LUNG, BONE or EDGE (GE), has a number of 55 or more (Siemens: B70f, Br64d), FC30 or more (Canon),
or is D, L, YB or YC (Philips).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from p2ch_luna.errors import LunaError
from p2ch_luna.io.dicom_headers import BODY_PART, KERNEL, SERIES_NUMBER, STUDY_UID, Damaged
from p2ch_luna.io.dicom_series import FoundSeries, SeriesFacts, unreadable
from p2ch_luna.io.dicom_stack import Stack

MOST_NAMED = 5  # series, in an error
COVERED, COVERED_MM = 0.8, 300.0  # part of the longest series' length, which counts up to this
THICKNESS_CLASSES_MM = (1.5, 2.5, 5.0)
THINNEST_MM = 0.6  # thinner slices bring noise and no more nodules
_CHEST = re.compile(r"CHEST|THORAX|LUNG")  # also CHESTABDOMEN, CHESTABDPELVIS, NECKCHEST
_ELSEWHERE = re.compile(
    r"HEAD|BRAIN|SKULL|NECK|SPINE|ABDOMEN|PELVIS|KNEE|EXTREMITY|(?<![A-Z])(HIP|LEG)S?(?![A-Z])"
)
_PROJECTIONS = ("MIP", "MINIP", "MAXIP", "AVERAGE", "PROJECTION")
_SHARP = re.compile(r"(LUNG|BONE|EDGE|FC[3-9]\d|[A-Z]{1,2}(5[5-9]|[6-9]\d)|(D|L|YB|YC)$)")


@dataclass(frozen=True, eq=False)
class Choice:
    """All series that there are, the one to read as the first; its slices; what a report should say."""

    found: tuple[FoundSeries, ...]
    remarks: tuple[str, ...]  # of each of `found`
    stack: Stack
    warnings: tuple[str, ...]

    def facts(self) -> tuple[SeriesFacts, ...]:
        """What a report tells of each series, in the same order."""
        return tuple(s.facts(remark) for s, remark in zip(self.found, self.remarks, strict=True))


class _Rule(NamedTuple):
    """A rank of a series (lower is better) with the series to choose from; how to say who won, who lost."""

    rank: Callable[[FoundSeries, Sequence[FoundSeries]], float]
    won: str
    lost: Callable[[FoundSeries, FoundSeries], str]  # of the loser and the winner


def choose(
    folder: Path, found: Sequence[FoundSeries], damaged: Sequence[Damaged], series_uid: str | None = None
) -> Choice:
    """The series of that uid, or else the best by the rules of this module.

    Raises LunaError where there is no CT, no series of that uid or one of several patients, several patients
    and no uid, or where the series that would be read has a fault.
    """
    if not found:
        if damaged:
            raise unreadable(damaged[0].path)
        raise LunaError(f"{folder}: no DICOM images in this folder; expected one CT series")
    if series_uid is not None:
        return _asked_for(folder, found, series_uid)
    _check_patients(folder, found)
    usable = [series for series in found if series.stack]
    if not usable:
        raise _fault_of_best(folder, found)
    best, *rest = sorted(usable, key=lambda s: [rule.rank(s, usable) for rule in _rules()])
    others = [*rest, *(s for s in found if not s.stack)]
    remarks = (_praise(best, rest, usable), *(f"not chosen: {_reason(s, best, usable)}" for s in others))
    return _choice([best, *others], remarks, _warnings(best, found, damaged))


def _choice(found: Sequence[FoundSeries], remarks: Sequence[str], warnings: Sequence[str]) -> Choice:
    """Of the first; raises LunaError where it has a fault."""
    first = found[0]
    if isinstance(first.outcome, LunaError):
        raise first.outcome
    return Choice(tuple(found), tuple(remarks), first.outcome, (*warnings, *first.outcome.warnings))


def _asked_for(folder: Path, found: Sequence[FoundSeries], series_uid: str) -> Choice:
    asked = [series for series in found if series.series_uid == series_uid]
    if not asked:
        raise LunaError(f"{folder}: no series {series_uid}; expected one of {_listed(found)}")
    if len(asked) > 1:
        raise LunaError(
            f"{folder}: series {series_uid} has images of {len(asked)} patients; expected one: "
            "put the files of each into a folder of their own"
        )
    others = [series for series in found if series.series_uid != series_uid]
    said = (f"not chosen: {s.fault or 'another was asked for'}" for s in others)
    return _choice([*asked, *others], ("chosen: it was asked for", *said), ())


def _check_patients(folder: Path, found: Sequence[FoundSeries]) -> None:
    """Raise LunaError where CTs that can be read are of several patients; who they are is not told."""
    readable = {series.series_uid for series in found if series.stack}
    patients = {series.first.patient for series in found if series.series_uid in readable}
    if len(patients) < 2:
        return
    counts = Counter(series.series_uid for series in found)
    of_one = [series for series in found if series.stack and counts[series.series_uid] == 1]
    way = f"name a series (--series UID) of {_listed(of_one)}" if of_one else "no series uid tells them apart"
    raise LunaError(f"{folder}: CT images of {len(patients)} patients; expected one: {way}")


def _listed(found: Sequence[FoundSeries]) -> str:
    """The series that can be read, else all, by uid and number of images."""
    shown = [series for series in found if series.stack] or list(found)
    named = ", ".join(f"{s.series_uid} ({s.first.modality}, {len(s.headers)})" for s in shown[:MOST_NAMED])
    more = f", and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    return f"{named}{more}"


def _fault_of_best(folder: Path, found: Sequence[FoundSeries]) -> LunaError:
    """What is wrong with the CT series of most images, scouts last; or that there is none."""
    ct = [series for series in found if series.first.modality == "CT"]
    if not ct:
        modalities = ", ".join(sorted({s.first.modality or "unknown" for s in found}))
        return LunaError(f"{folder}: images of modality {modalities}; expected CT")
    worst = max(ct, key=lambda s: (not s.first.is_localizer, len(s.headers)))
    return worst.outcome if isinstance(worst.outcome, LunaError) else unreadable(folder)


def _warnings(best: FoundSeries, found: Sequence[FoundSeries], damaged: Sequence[Damaged]) -> list[str]:
    """Of several studies, of a larger CT series that has a fault, of images of no series that is there."""
    ct = [series for series in found if series.first.modality == "CT"]
    studies = {series.first.text(STUDY_UID) for series in ct}
    told = [f"CTs of {len(studies)} studies are there: {best.facts('').study_uid} was read"]
    spoilt = [
        f"series {s.series_uid} of {len(s.headers)} images cannot be read: {s.fault}"
        for s in ct
        if s.fault and len(s.headers) > len(best.headers)
    ]
    lost = sum(d.series_uid not in {series.series_uid for series in found} for d in damaged)
    unread = [f"damaged CT images of another series, passed over: {lost}"] if lost else []
    return [*(told if len(studies) > 1 else ()), *spoilt, *unread]


def _praise(best: FoundSeries, rest: Sequence[FoundSeries], usable: Sequence[FoundSeries]) -> str:
    if not rest:
        return "chosen: the only CT series that can be read"
    rule = _deciding(best, rest[0], usable)
    return f"chosen: {rule.won if rule else 'the first'} of {len(usable)} CT series"


def _reason(series: FoundSeries, best: FoundSeries, usable: Sequence[FoundSeries]) -> str:
    if series.fault:
        return series.fault
    rule = _deciding(best, series, usable)
    return rule.lost(series, best) if rule else "as good as the chosen"


def _deciding(best: FoundSeries, other: FoundSeries, usable: Sequence[FoundSeries]) -> _Rule | None:
    """The first rule by which two series differ."""
    return next((rule for rule in _rules() if rule.rank(best, usable) != rule.rank(other, usable)), None)


def elsewhere(body_part: str) -> str | None:
    """The part that a BodyPartExamined names where it shows no chest: one of few words; None if it may."""
    part = body_part.upper()
    found = _ELSEWHERE.search(part)
    return None if found is None or _CHEST.search(part) else found[0]


def _is_elsewhere(series: FoundSeries, _: Sequence[FoundSeries]) -> bool:
    return elsewhere(series.first.text(BODY_PART)) is not None


def _derived(series: FoundSeries, _: Sequence[FoundSeries]) -> int:
    """0: as reconstructed, 1: derived, 2: a projection."""
    kinds = series.first.image_type
    return 2 if set(kinds) & set(_PROJECTIONS) else int("DERIVED" in kinds or "SECONDARY" in kinds)


def _is_short(series: FoundSeries, usable: Sequence[FoundSeries]) -> bool:
    return series.extent_mm < COVERED * min(COVERED_MM, max(s.extent_mm for s in usable))


def _thickness_class(series: FoundSeries, _: Sequence[FoundSeries]) -> int:
    return bisect_left(THICKNESS_CLASSES_MM, round(series.slice_mm, 2))


def _is_sharp(series: FoundSeries, _: Sequence[FoundSeries]) -> bool:
    return _SHARP.match(series.first.text(KERNEL).upper()) is not None


def _thicker(series: FoundSeries, best: FoundSeries) -> str:
    return f"{series.slice_mm:.3g} mm slices, the chosen has {best.slice_mm:.3g} mm"


def _rules() -> tuple[_Rule, ...]:
    """Those of this module, the first first."""
    return (
        _Rule(lambda s, _: s.plane != "axial", "the axial one", lambda s, _: f"{s.plane} slices"),
        _Rule(_is_elsewhere, "of the chest", lambda s, _: f"of another body part, {s.first.text(BODY_PART)}"),
        _Rule(_derived, "the least derived", lambda s, _: f"image type {' '.join(s.first.image_type)}"),
        _Rule(
            _is_short, "long enough", lambda s, b: f"{s.extent_mm:.0f} mm long, the chosen {b.extent_mm:.0f}"
        ),
        _Rule(_thickness_class, "thinnest", _thicker),
        _Rule(_is_sharp, "softest kernel", lambda s, _: f"a sharp kernel, {s.first.text(KERNEL)}"),
        _Rule(lambda s, _: max(THINNEST_MM, round(s.slice_mm, 2)), "thinnest", _thicker),
        _Rule(
            lambda s, _: -len(s.headers),
            "most images",
            lambda s, b: f"{len(s.headers)} images, the chosen has {len(b.headers)}",
        ),
        _Rule(lambda s, _: s.first.number(SERIES_NUMBER) or 0.0, "first", lambda *_: "a later series alike"),
    )
