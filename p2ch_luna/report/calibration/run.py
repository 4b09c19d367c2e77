"""A calibration from its inputs to the card: implanted scans made, kept, fitted and told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.files import replacing
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io.lidc_tables import load_lidc_tables
from p2ch_luna.models.checkpoint import card_path, load_card
from p2ch_luna.report.benchmark.run import Bench, Tell, all_parts
from p2ch_luna.report.calibration.fit import NODULES_PER_SCAN, CalibrationReport, calibrate, recalibrated

REPORT = "calibration.json"
HOW_TO_GO_ON = "wanted other --folds and HOSTs, or to use them all the same: --also-trained"

log = logging.getLogger(__name__)


def run_calibration(
    bench: Bench,
    weights: Path,
    output: Path,
    progress: Progress,
    tell: Tell,
    *,
    nodules_per_scan: float = NODULES_PER_SCAN,
    also_trained: bool = False,
) -> CalibrationReport:
    """Make what is not there yet in `output`, fit, and write the card beside `weights` and calibration.json.

    weights: of the bench's classifier. Its detector must be without a calibration and have no network of
    malignancy, which has no say here.
    Raises LunaError where a network was trained on a host or a patient of the nodules, before anything is
    computed, unless with `also_trained`; then the card says so.
    """
    leaks = bench.leaks()
    if leaks and not also_trained:
        raise LunaError(f"{'; '.join(leaks)}; {HOW_TO_GO_ON}")
    for leak in leaks:
        log.warning("%s; probabilities in other scans will be too sure", leak)
    with replacing(output / REPORT) as text, replacing(card_path(weights)) as card:
        parts = all_parts(bench, output, progress, tell, keep_scans=False)
        progress.stage("fitting")
        told = dict.fromkeys(f"{part.host}: {warning}" for part in parts for warning in part.warnings)
        on = _on(bench, leaks, nodules_per_scan)
        report = calibrate(
            parts,
            nodules_per_scan,
            on=on,
            segmentation_sha256=bench.models["segmentation"],
            warnings=[*leaks, *told],
        )
        found, dropped = recalibrated(load_card(weights), report.calibration)
        report = report.model_copy(update={"warnings": (*report.warnings, *dropped)})
        text.write_text(report.to_json(), encoding="utf-8")
        card.write_text(found.to_json(), encoding="utf-8")
    return report


def _on(bench: Bench, leaks: Sequence[str], nodules_per_scan: float) -> str:
    """Which scans and patients these are, for the card."""
    settings = bench.settings
    patient_of = load_lidc_tables().patient_of
    names = ", ".join(patient_of(host.series_uid) or host.path.resolve().name for host in bench.hosts)
    folds = ", ".join(map(str, settings.folds))
    scans = len(bench.hosts) * settings.copies
    return (
        f"{scans} scan(s) made of {len(bench.hosts)} chest(s) ({names}), {settings.count} LIDC nodules of "
        f"{settings.min_diameter_mm:g} to {settings.max_diameter_mm:g} mm of fold {folds} set into each; "
        f"{nodules_per_scan:g} nodules a scan; "
        f"{'; '.join(leaks) or _unseen(bench)} (luna calibrate)"
    )


def _unseen(bench: Bench) -> str:
    """How far the networks do not know what nothing was trained on: it may have picked their epoch."""
    judged = {
        name
        for card in bench.detector.models.values()
        for side in ("validation", "validation hosts", "validation scans")
        for name in card.split.get(side, ())
    }
    own = {nodule.patient_id for nodule in bench.pool} | {host.series_uid for host in bench.hosts}
    return "nothing of it was trained on" + (", but some has picked an epoch" if own & judged else "")
