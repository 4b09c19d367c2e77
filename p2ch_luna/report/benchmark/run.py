"""A benchmark from its inputs to its report: every host's copies made, diagnosed, kept and scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from p2ch_luna.datasets.benchmark import (
    BenchmarkScan,
    Host,
    check_hosts,
    implanted_uid,
    known_by_host,
    make_scan,
    pool_sha256,
    seed_of,
)
from p2ch_luna.datasets.implant import implantable_nodules
from p2ch_luna.datasets.splits import MOST_NAMED
from p2ch_luna.files import replacing
from p2ch_luna.findings import Nodule
from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference.detector import CLASSIFIER, NoduleDetector, Progress
from p2ch_luna.io.lidc import LidcNodule
from p2ch_luna.io.lidc_tables import load_lidc_tables
from p2ch_luna.io.volumes import read_ct, write_ct, write_mask
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.report.benchmark.figures import write_plots
from p2ch_luna.report.benchmark.parts import Part, part_key, read_part, write_part
from p2ch_luna.report.benchmark.pictures import write_pictures
from p2ch_luna.report.benchmark.schema import (
    BenchmarkReport,
    HostInput,
    Inputs,
    Settings,
    figures_of,
    score_parts,
    too_few_hosts,
    write_tables,
)
from p2ch_luna.report.countdown import ToGo
from p2ch_luna.training.lineage import learnt_from

PARTS, SCANS, REPORT = "parts", "scans", "benchmark.json"
FEW_HOSTS = 5  # to draw from: a resample of fewer is most often one of the same few

Tell = Callable[[str], None]
Piece = TypeVar("Piece")  # what one part is of

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Bench:
    """All inputs of a benchmark, read and found good."""

    hosts: list[Host]
    known: dict[str, list[Nodule]]  # findings that each host has of its own, by its series uid
    pool: list[LidcNodule]
    pool_sha256: str
    detector: NoduleDetector
    settings: Settings

    @classmethod
    def read(
        cls,
        hosts: Sequence[Path],
        lidc: Path,
        known: Sequence[Nodule] | None,
        detector: NoduleDetector,
        settings: Settings,
    ) -> Bench:
        """Raises LunaError for a host that cannot be read, and where no nodule is as the settings want it.

        known: as `known_by_host` takes it, with the same errors.
        """
        read = check_hosts(hosts)
        pool = implantable_nodules(lidc, settings.folds, settings.min_diameter_mm, settings.max_diameter_mm)
        of_host = known_by_host(known, [host.series_uid for host in read])
        return cls(read, of_host, pool, pool_sha256(pool), detector, settings)

    @property
    def models(self) -> dict[str, str]:
        """SHA-256 of the weights by stage."""
        return {stage: card.weights_sha256 for stage, card in self.detector.models.items()}

    @property
    def calibrations(self) -> dict[str, list[float]]:
        """What makes one probability of the logits, by stage, where a card has it."""
        found = {stage: card.calibration for stage, card in self.detector.models.items()}
        return {
            stage: [one.segmentation, one.classifier, one.intercept] for stage, one in found.items() if one
        }

    def key(self, host: Host, copy: int) -> str:
        """Of everything that decides what comes of a copy."""
        return part_key(
            host,
            copy,
            seed=self.settings.seed,
            count=self.settings.count,
            pool=self.pool_sha256,
            known=self.known[host.series_uid],
            models=self.models,
            calibrations=self.calibrations,
            proposal=self.detector.proposal,
            device=self.settings.device,
        )

    def scan(self, ct: CtVolume, prepared: PreparedCt, copy: int) -> BenchmarkScan:
        """A copy of a host; the same whenever it is made. prepared: what `lungs.prepare` makes of `ct`."""
        return make_scan(
            ct,
            prepared,
            self.pool,
            self.settings.count,
            np.random.default_rng(seed_of(self.settings.seed, ct.series_uid, copy)),
            series_uid=implanted_uid(ct.series_uid, copy),
            known=self.known[ct.series_uid],
        )

    def copies_of(self, host: Host, copies: Sequence[int]) -> Iterator[BenchmarkScan]:
        """These copies of a host, which is read and prepared once, if there are any."""
        if copies:
            ct = read_ct(host.path)
            prepared = prepare(ct)
            yield from (self.scan(ct, prepared, copy) for copy in copies)

    def scans(self, wanted: Collection[str], progress: Progress) -> Iterator[BenchmarkScan]:
        """The copies with these series uids, each made again."""
        progress.stage("implanting again for pictures", len(wanted))
        for host in self.hosts:
            copies = range(1, self.settings.copies + 1)
            here = [copy for copy in copies if implanted_uid(host.series_uid, copy) in wanted]
            for scan in self.copies_of(host, here):
                yield scan
                progress.advance()

    def leaks(self) -> list[str]:
        """What the networks have learnt from of what is to measure them, in words; by their cards."""
        tables = load_lidc_tables()

        def patient_of(series_uid: str) -> str:
            return tables.patient_of(series_uid) or series_uid

        told = []
        for stage, card in self.detector.models.items():
            seen = learnt_from(card.split, patient_of)
            hosts = [host.series_uid for host in self.hosts if patient_of(host.series_uid) in seen]
            patients = sorted({nodule.patient_id for nodule in self.pool} & seen)
            for kind, names in (("hosts", hosts), ("patients of nodules", patients)):
                named = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
                if names:
                    told.append(f"the {stage} network has learnt from {len(names)} of the {kind}: {named}")
        return told


def run_benchmark(
    bench: Bench,
    output: Path,
    progress: Progress,
    tell: Tell,
    *,
    keep_scans: bool = False,
    pictures: bool = False,
) -> BenchmarkReport:
    """Make what is not there yet, score all of it and write the figures, tables and plots to `output`.

    tell: hears a line of every scan that is done. A scan that was made without its file is made again with
    `keep_scans`; `pictures` are taken from scans that are made again without a diagnosis.
    """
    leaks = bench.leaks()
    for leak in leaks:
        log.warning("%s; sensitivity on others will be lower", leak)
    parts = all_parts(bench, output, progress, tell, keep_scans=keep_scans)
    progress.stage("scoring")
    scored = score_parts(parts)
    report = BenchmarkReport(
        inputs=inputs_of(bench),
        settings=bench.settings,
        figures=figures_of(scored, np.random.default_rng(bench.settings.seed)),
        warnings=(
            *leaks,
            *few_hosts(bench),
            *dict.fromkeys(f"{p.host}: {warning}" for p in parts for warning in p.warnings),
        ),
    )
    write_tables(output, parts, scored)
    write_plots(output, report)
    if pictures:
        write_pictures(output, parts, scored, lambda wanted: bench.scans(wanted, progress))
    with replacing(output / REPORT) as temporary:
        temporary.write_text(report.to_json(), encoding="utf-8")
    return report


def few_hosts(bench: Bench) -> list[str]:
    """That the interval is of too few hosts, if so; below two there is none."""
    n = len(bench.hosts)
    if n >= FEW_HOSTS:
        return []
    told = "no 95% interval of the CPM" if n < 2 else "the 95% interval of the CPM is a rough one"
    return [too_few_hosts(n, told, FEW_HOSTS)]


def inputs_of(bench: Bench) -> Inputs:
    """What a report says of them."""
    hosts = tuple(
        HostInput(
            name=host.path.resolve().name,
            series_uid=host.series_uid,
            sha256=host.sha256,
            known=len(bench.known[host.series_uid]),
        )
        for host in bench.hosts
    )
    classifier = bench.detector.models.get(CLASSIFIER)
    calibration = classifier.calibration if classifier else None
    return Inputs(
        hosts=hosts,
        pool=len(bench.pool),
        pool_sha256=bench.pool_sha256,
        models=bench.models,
        calibration=calibration.sha256 if calibration else "",
    )


def all_parts(bench: Bench, output: Path, progress: Progress, tell: Tell, *, keep_scans: bool) -> list[Part]:
    """Of every copy of every host, in this order."""
    copies = range(1, bench.settings.copies + 1)
    scans = output / SCANS if keep_scans else None
    parts = completed(
        {(h, copy): _there(bench, h, copy, output, keep_scans) for h in bench.hosts for copy in copies},
        lambda missing: _made(bench, missing, scans),
        lambda _: output / PARTS,
        Told("implanting and diagnosing", f"scans are done, in {output / PARTS}", lambda _: ""),
        progress,
        tell,
    )
    return list(parts.values())


class Told(NamedTuple):
    """What a person reads of the work on parts."""

    stage: str
    there: str  # after "3 of 8": what is there of an earlier run
    of_piece: Callable[[Any], str]  # after the series uid, what else a piece is


def completed(
    there: Mapping[Piece, Part | None],
    make: Callable[[Sequence[Piece]], Iterator[Part]],
    folder: Callable[[Piece], Path],
    told: Told,
    progress: Progress,
    tell: Tell,
) -> dict[Piece, Part]:
    """All parts, in the order of `there`: those of an earlier run, and those made now, each kept at once.

    make: the parts of pieces, in their order.    folder: where the part of a piece is kept.
    """
    parts = {piece: part for piece, part in there.items() if part is not None}
    missing = [piece for piece in there if piece not in parts]
    if parts:
        tell(f"{len(parts)} of {len(there)} {told.there}")
    progress.stage(told.stage, len(missing))
    to_go = ToGo(len(missing))
    for piece, part in zip(missing, make(missing), strict=True):
        write_part(folder(piece), part)
        parts[piece] = part
        progress.advance()
        marks = f"{len(part.detections)} marks; {to_go.after_one()} to go"
        tell(f"{part.series_uid}{told.of_piece(piece)}: {marks}")
    return {piece: parts[piece] for piece in there}


def _there(bench: Bench, host: Host, copy: int, output: Path, keep_scans: bool) -> Part | None:
    """What an earlier run has kept, if it is all that this one wants."""
    uid = implanted_uid(host.series_uid, copy)
    part = read_part(output / PARTS, uid, bench.key(host, copy))
    if part and keep_scans and not (part.is_kept and _scan_path(output / SCANS, uid).is_file()):
        return None
    return part


def _made(bench: Bench, pieces: Sequence[tuple[Host, int]], scans: Path | None) -> Iterator[Part]:
    """The parts of these copies of hosts; `scans`: the folder to write the scans to."""
    for host, of_host in groupby(pieces, lambda piece: piece[0]):
        copies = [copy for _, copy in of_host]
        for copy, scan in zip(copies, bench.copies_of(host, copies), strict=True):
            if scans:
                uid = scan.ct.series_uid
                write_ct(_scan_path(scans, uid), scan.ct)
                write_mask(scans / f"{uid}-nodules.nii.gz", scan.labels, scan.ct.geometry)
            yield diagnosed(bench, host, bench.key(host, copy), scan, is_kept=scans is not None)


def diagnosed(bench: Bench, host: Host, key: str, scan: BenchmarkScan, *, is_kept: bool = False) -> Part:
    """The part of one scan of a host, made now."""
    diagnosis = bench.detector(scan.ct)
    return Part(
        key=key,
        host=host.series_uid,
        series_uid=scan.ct.series_uid,
        is_kept=is_kept,
        implanted=tuple(scan.implanted),
        excluded=tuple(scan.excluded),
        detections=tuple(diagnosis.detections),
        warnings=tuple(diagnosis.warnings),
        seconds=round(sum(diagnosis.timings_s.values()), 3),
    )


def _scan_path(scans: Path, series_uid: str) -> Path:
    return scans / f"{series_uid}.mhd"
