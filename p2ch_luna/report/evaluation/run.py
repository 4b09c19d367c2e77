"""An evaluation from files: what is read, checked, said and scored."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2ch_luna.datasets.catalogue import find_lists
from p2ch_luna.datasets.luna16_ratings import with_ratings
from p2ch_luna.errors import LunaError
from p2ch_luna.io.tables import ScoredPoint, read_detections, read_nodules, read_series_uids
from p2ch_luna.io.zipped import open_binary
from p2ch_luna.metrics.matching import MAX_MARKS_PER_SCAN
from p2ch_luna.report.evaluation.schema import Compared, Evaluation, Input, Settings
from p2ch_luna.report.evaluation.scores import (
    FP_PER_SCAN_FOR_GROUPS,
    OPERATING_FP_PER_SCAN,
    RESAMPLES,
    Result,
    Truth,
    differences_of,
    judge,
    score_of,
)

MOST_NAMED = 3  # ids in an error


@dataclass(frozen=True)
class Lists:
    """The tables of a truth; scans: None where only the truth and the marks name scans."""

    nodules: Path
    excluded: Path | None
    scans: Path | None


@dataclass(frozen=True)
class Answer:
    """An evaluation, and the curves of its submissions in the same order."""

    evaluation: Evaluation
    results: list[Result]


def lists_of(truth: Path, excluded: Path | None, scans: Path | None) -> Lists:
    """The tables that are meant: of a folder LUNA16's lists, unless others are given. Raises LunaError."""
    if not truth.is_dir():
        return Lists(truth, excluded, scans)
    found = find_lists(truth)
    if found.annotations is None:
        raise LunaError(f"{truth}: no annotations.csv in it; expected LUNA16's lists, or a CSV of nodules")
    return Lists(found.annotations, excluded or found.excluded, scans or found.series_uids)


def run_evaluation(detections: Sequence[Path], lists: Lists, min_diameter_mm: float, seed: int) -> Answer:
    """Score submissions; what a user should know but no figure tells is in the evaluation's `warnings`.

    Raises LunaError for tables that cannot be read or do not fit together, and where there is no nodule.
    """
    names = _names(detections)
    marks = [read_detections(path) for path in detections]
    warnings: list[str] = []
    whole = _truth(lists, dict(zip(detections, marks, strict=True)), warnings)
    truth = whole.from_diameter(min_diameter_mm)
    for path, name, of_one in zip(detections, names, marks, strict=True):
        _check_listed(path, of_one, truth.scans)
        warnings += _said_of_marks(name, of_one, truth.scans)
    results = [judge(name, truth, of_one, seed) for name, of_one in zip(names, marks, strict=True)]
    warnings += _said_of_truth(lists.nodules, truth, len(results[0].outcome.nodule_score))
    warnings += _said_of_excluded(lists.excluded, whole)
    first, *others = (score_of(result, truth) for result in results)
    differences = differences_of(results, seed)
    evaluation = Evaluation(
        **dict(first),
        inputs=_inputs(detections, lists),
        settings=_settings(min_diameter_mm, seed),
        warnings=tuple(warnings),
        others=tuple(
            Compared(**dict(score), difference=difference)
            for score, difference in zip(others, differences, strict=True)
        ),
    )
    return Answer(evaluation, results)


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of files where they tell them apart, else paths as they were given."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _truth(lists: Lists, marks: Mapping[Path, Sequence[ScoredPoint]], warnings: list[str]) -> Truth:
    """marks: of each file."""
    nodules = with_ratings(read_nodules(lists.nodules))
    excluded = read_nodules(lists.excluded) if lists.excluded else []
    of_truth = {nodule.series_uid for nodule in nodules}
    if lists.scans is None:
        scans = _named_scans(
            of_truth, {path: {m.series_uid for m in of_one} for path, of_one in marks.items()}
        )
        warnings.append(
            f"--scans is not given: counting the {len(scans)} scan(s) named in the truth or the detections; "
            "scans without either are not counted"
        )
    else:
        scans = read_series_uids(lists.scans)
        _check_common(lists.scans, of_truth, set(scans), "a list of the scans that were diagnosed")
    return Truth(nodules, excluded, scans)


def _named_scans(of_truth: set[str], of_marks: Mapping[Path, set[str]]) -> list[str]:
    """Those of the truth and of all files; a file that does not fit would change the others' scores."""
    for path, uids in of_marks.items():
        _check_common(path, of_truth, uids, "the same scans in both, or --scans with a list")
    files = Counter(uid for uids in of_marks.values() for uid in uids)
    for path, uids in of_marks.items():
        alone = sorted(uid for uid in uids - of_truth if files[uid] == 1)
        if len(of_marks) > 1 and alone:
            raise LunaError(
                f"{path}: {len(alone)} scan(s) that neither the truth nor another submission has: "
                f"{_some(alone)}; expected the same scans in all, or --scans with a list"
            )
    return sorted(of_truth.union(*of_marks.values()))


def _some(uids: Sequence[str]) -> str:
    """The first few by name."""
    more = len(uids) - MOST_NAMED
    return ", ".join(uids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_common(path: Path, of_truth: set[str], others: set[str], wanted: str) -> None:
    """Ids of which not one is common have most likely lost digits on their way."""
    if of_truth and others and not of_truth & others:
        raise LunaError(
            f"no seriesuid in common: the truth has {min(of_truth)}, {path} has {min(others)}; "
            f"wanted {wanted}"
        )


def _check_listed(path: Path, marks: Sequence[ScoredPoint], scans: Sequence[str]) -> None:
    """Every mark is on a scan of the list."""
    listed = set(scans)
    unlisted = list(dict.fromkeys(mark.series_uid for mark in marks if mark.series_uid not in listed))
    if unlisted:
        such_as = f", such as {scans[0]!r}" if scans else ""
        raise LunaError(
            f"{path}: {len(unlisted)} scan(s), such as {unlisted[0]!r}, are not among the {len(scans)} "
            f"listed; expected ids just as in the list{such_as}"
        )


def _said_of_marks(name: str, marks: Sequence[ScoredPoint], scans: Sequence[str]) -> list[str]:
    """What is allowed but may be meant otherwise."""
    per_scan = Counter(mark.series_uid for mark in marks)
    said = []
    outside = [mark.probability for mark in marks if not 0 <= mark.probability <= 1]
    if outside:
        said.append(
            f"{name}: {len(outside)} mark(s) have a probability outside 0 to 1, such as {outside[0]:g}: "
            "only the order counts"
        )
    many = [uid for uid, count in per_scan.items() if count > MAX_MARKS_PER_SCAN]
    if many:
        said.append(
            f"{name}: more than {MAX_MARKS_PER_SCAN} marks on {len(many)} scan(s): there those count that "
            f"score above number {MAX_MARKS_PER_SCAN + 1}"
        )
    bare = sum(uid not in per_scan for uid in scans)
    if bare:
        said.append(
            f"{name}: no mark on {bare} of {len(scans)} scan(s): they count as scans without a finding"
        )
    return said


def _said_of_truth(path: Path, truth: Truth, n_scored: int) -> list[str]:
    said = []
    if left_out := len(truth.nodules) - n_scored:
        said.append(f"{left_out} nodule(s) of {path} are on scans that are not listed: left out")
    if unmeasured := sum(nodule.diameter_mm < 0 for nodule in truth.nodules):
        said.append(
            f"{unmeasured} nodule(s) of {path} have a negative diameter, which counts as 10 mm: "
            "is it a list of excluded findings?"
        )
    return said


def _said_of_excluded(path: Path | None, truth: Truth) -> list[str]:
    """Raises LunaError where not one excluded finding of the file is on a listed scan."""
    scans = set(truth.scans)
    elsewhere = [finding.series_uid for finding in truth.excluded if finding.series_uid not in scans]
    if not elsewhere:
        return []
    if len(elsewhere) == len(truth.excluded):
        raise LunaError(
            f"{path}: no excluded finding on any of the {len(scans)} scan(s): it has {min(elsewhere)}, the "
            f"scans are such as {min(scans, default='none')}; expected findings on these scans"
        )
    return [f"{len(elsewhere)} excluded finding(s) of {path} are on scans that are not listed: left out"]


def _inputs(detections: Sequence[Path], lists: Lists) -> tuple[Input, ...]:
    files = [*(("detections", path) for path in detections), ("truth", lists.nodules)]
    files += [(role, path) for role, path in (("excluded", lists.excluded), ("scans", lists.scans)) if path]
    return tuple(_input(role, path) for role, path in files)


def _input(role: str, path: Path) -> Input:
    """A file as it is now; it may lie in a zip."""
    with open_binary(path) as file:
        return Input(role=role, name=path.name, sha256=hashlib.sha256(file.read()).hexdigest())


def _settings(min_diameter_mm: float, seed: int) -> Settings:
    return Settings(
        min_diameter_mm=min_diameter_mm,
        seed=seed,
        resamples=RESAMPLES,
        max_marks_per_scan=MAX_MARKS_PER_SCAN,
        group_fp_per_scan=FP_PER_SCAN_FOR_GROUPS,
        operating_fp_per_scan=OPERATING_FP_PER_SCAN,
    )
