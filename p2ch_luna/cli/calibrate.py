"""`luna calibrate`: a probability that means what it says, and the score for so many false positives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import (
    device_option,
    echo_json,
    json_option,
    output_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._implanted import proposing_options, read_bench, tell
from p2ch_luna.report.rates import rate_text

if TYPE_CHECKING:
    import torch

    from p2ch_luna.inference import NoduleDetector
    from p2ch_luna.report.calibration.fit import CalibrationReport

VALIDATION_FOLD = "6"  # of the bundled networks: neither trained on, nor of the test third


@click.command(context_settings={"default_map": {"folds": VALIDATION_FOLD}})
@proposing_options
@click.option(
    "--model",
    "--classifier",
    "model",
    type=click.Path(path_type=Path),
    required=True,
    help="The classifier that judges, a model file or a run's folder: its card gets the calibration.",
)
@click.option(
    "--nodules-per-scan",
    type=click.FloatRange(min=0, min_open=True),
    default=1.3,
    show_default=True,
    help="As many as a scan is taken to have, whatever is set in: LUNA16's have 1.3.",
)
@click.option("--also-trained", is_flag=True, help="Use hosts and patients too that a network trained on.")
@output_option("Folder for the scans' findings and calibration.json; what is there is used again.")
@device_option
@threads_option
@json_option
def calibrate(
    hosts: tuple[Path, ...],
    *,
    output: Path,
    segmentation: Path | None,
    model: Path,
    nodules_per_scan: float,
    also_trained: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    **inputs: Any,
) -> None:
    """Fit one probability of a nodule to what both networks say, and find the operating points.

    Real LIDC nodules are set into each HOST, as `luna benchmark` does. A logistic regression of both stages'
    logits tells them from all other candidates; nodules count as often as an ordinary scan has them. The card
    of --model then holds it, with the probability from which on findings bring 1/8 to 8 false positives a
    scan: see `luna diagnose --operating-point`. The weights are not changed.

    \b
    luna calibrate scanner/*.mha --nodules lidc --known own.csv --model runs/nodule-20260101-120000 -o out
    """
    from p2ch_luna.models.checkpoint import card_path, weights_at
    from p2ch_luna.report.calibration.run import run_calibration

    use_threads(threads)
    target = pick_device(device)
    with progress() as stages:
        stages.stage("checking hosts, nodules and networks")
        weights = weights_at(model)
        bench = read_bench(hosts, partial(_detector, segmentation, weights, target), target, **inputs)
        fit = partial(run_calibration, nodules_per_scan=nodules_per_scan, also_trained=also_trained)
        report = fit(bench, weights, output, stages, tell)
    if as_json:
        echo_json(report.model_dump(mode="json"))
        return
    click.echo("\n".join([*_table(report), f"written: {card_path(weights)}, {output}/calibration.json"]))


def _detector(segmentation: Path | None, classifier: Path, device: torch.device) -> NoduleDetector:
    """An earlier calibration decides on nothing: what was made with it stays of use."""
    from p2ch_luna.inference import NoduleDetector

    return NoduleDetector.load(segmentation, classifier, device).two_stages().uncalibrated()


def _table(report: CalibrationReport) -> Iterator[str]:
    """The fit and what it brings, for a person."""
    from p2ch_luna.report.card.sections import formula

    fit = report.calibration
    yield f"fitted on {fit.on}"
    yield (
        f"{report.on_nodules} candidates on the {report.nodules} nodules, {report.on_nothing} on nothing; "
        f"a scan is taken to have {report.nodules_per_scan:g} nodules"
    )
    yield formula(fit)
    yield ""
    yield "FP/scan  from probability  sensitivity"
    for point in fit.operating_points:
        yield f"{rate_text(point.fp_per_scan):>7}{point.probability:>18.4f}{point.sensitivity:>13.3f}"
    yield ""
    yield f"expected calibration error: {report.error_before:.3f} before, {report.error_after:.3f} after"
    if report.error_left_out is not None:
        yield f"  {report.error_left_out:.3f} where each host (of one: each scan) is judged by the others"
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield report.statement
