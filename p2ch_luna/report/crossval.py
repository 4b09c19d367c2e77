"""A cross-validation's results: what is kept of each fold, and the score of all of them together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from p2ch_luna import __version__
from p2ch_luna.datasets.collection import Known
from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.findings import Nodule
from p2ch_luna.frozen import Frozen
from p2ch_luna.io import ScoredPoint, write_detections, write_nodules
from p2ch_luna.metrics.froc import froc
from p2ch_luna.metrics.matching import score_detections
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.evaluation.run import Lists, run_evaluation
from p2ch_luna.report.evaluation.schema import Evaluation

VERSION = "1.0"  # of both schemas; the first number changes where an old reader would fail
BEST_EPOCH = (  # what a reader of the figures must know
    "the epoch of each network was picked on its held-out fold, so the figures are slightly too good"
)
DETECTIONS, ANNOTATIONS, EXCLUDED, SCANS, RESULT = (  # in the folder of the cross-validation
    "detections.csv",
    "annotations.csv",
    "annotations_excluded.csv",
    "seriesuids.csv",
    "crossval.json",
)


class FoldRecord(Frozen):
    """What was diagnosed in a fold's turn, and with what; beside its detections.csv."""

    version: str = VERSION
    software: str = f"p2ch-luna {__version__}"
    fold: int
    folds: tuple[int, ...]  # of the cross-validation: all but `fold` trained
    scans: tuple[str, ...]  # held out and diagnosed
    left_out: tuple[str, ...]  # held out, but cannot be read
    weights: dict[str, str]  # SHA-256 by stage: segmentation, and nodule if there is one


class FoldScore(Frozen):
    """One fold alone."""

    fold: int
    scans: int
    nodules: int
    cpm: float | None  # None: its scans have no nodule
    weights: dict[str, str]


class CrossvalReport(Frozen):
    """The text of crossval.json."""

    version: str = VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    notes: tuple[str, ...] = (BEST_EPOCH,)
    folds: tuple[int, ...]
    missing_folds: tuple[int, ...]  # not done yet: the figures are without them
    configs: dict[str, str]  # by stage, as TOML, as given: each fold's run says what took the place of what
    left_out: tuple[str, ...]  # held-out scans that cannot be read: in no figure
    per_fold: tuple[FoldScore, ...]
    evaluation: Evaluation  # of the pooled files, as `luna evaluate` gives it

    def to_json(self) -> str:
        """As it is written."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class FoldResult:
    """A fold that is done."""

    record: FoldRecord
    marks: Sequence[ScoredPoint]


def write_record(path: Path, record: FoldRecord) -> None:
    """Write a fold's record, after its detections: it says that they are whole."""
    with replacing(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> FoldRecord | None:
    """The fold's record; None where there is none. Raises LunaError for a damaged one."""
    if not path.is_file():
        return None
    try:
        return FoldRecord.model_validate(json.loads(path.read_text(encoding="utf-8")), strict=False)
    except (OSError, ValueError, ValidationError) as error:
        raise LunaError(
            f"{path}: damaged; wanted what `luna crossval` writes: remove it, and the fold is diagnosed again"
        ) from error


def pool(
    out: Path,
    known: Known,
    folds: Sequence[int],
    results: Sequence[FoldResult],
    configs: Mapping[str, str],
    seed: int,
) -> CrossvalReport:
    """Write all held-out scans' marks as one submission, with its truth, and score it by LUNA16's rules.

    It is computed beside the files and renamed, so that another job's are replaced and never mixed in.
    Raises LunaError for a scan that is held out twice, or where there is no nodule.
    """
    scans, done = _all_scans(results), {result.record.fold for result in results}
    with replacing(out / RESULT) as text, TemporaryDirectory(dir=out, prefix=".pooling-") as name:
        folder = Path(name)
        _write_tables(folder, known, scans, [mark for result in results for mark in result.marks])
        lists = Lists(folder / ANNOTATIONS, folder / EXCLUDED, folder / SCANS)
        report = CrossvalReport(
            folds=tuple(folds),
            missing_folds=tuple(fold for fold in folds if fold not in done),
            configs=dict(configs),
            left_out=tuple(uid for result in results for uid in result.record.left_out),
            per_fold=tuple(_fold_score(known, result) for result in results),
            evaluation=run_evaluation([folder / DETECTIONS], lists, 0.0, seed).evaluation,
        )
        text.write_text(report.to_json(), encoding="utf-8")
        for file in (DETECTIONS, ANNOTATIONS, EXCLUDED, SCANS):
            (folder / file).replace(out / file)
    return report


def _write_tables(folder: Path, known: Known, scans: Sequence[str], marks: Sequence[ScoredPoint]) -> None:
    write_detections(folder / DETECTIONS, marks)
    write_nodules(folder / ANNOTATIONS, _of(known.nodules, scans))
    write_nodules(folder / EXCLUDED, _of(known.unsure, scans))
    (folder / SCANS).write_text("\n".join(["seriesuid", *scans, ""]), encoding="utf-8")


def _all_scans(results: Sequence[FoldResult]) -> list[str]:
    fold_of: dict[str, int] = {}
    for result in results:
        for uid in result.record.scans:
            if uid in fold_of:
                raise LunaError(
                    f"{uid}: held out in folds {fold_of[uid]} and {result.record.fold}; wanted each scan once"
                )
            fold_of[uid] = result.record.fold
    return list(fold_of)


def _fold_score(known: Known, result: FoldResult) -> FoldScore:
    record = result.record
    nodules, unsure = (_of(findings, record.scans) for findings in (known.nodules, known.unsure))
    outcome = score_detections(nodules, unsure, record.scans, result.marks)
    return FoldScore(
        fold=record.fold,
        scans=outcome.n_scans,
        nodules=len(nodules),
        cpm=froc(outcome).cpm if nodules else None,
        weights=record.weights,
    )


def _of(findings: Mapping[str, Sequence[Nodule]], scans: Sequence[str]) -> list[Nodule]:
    return [finding for uid in scans for finding in findings.get(uid, ())]
