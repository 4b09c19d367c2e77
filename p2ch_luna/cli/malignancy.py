"""`luna malignancy`: how well networks tell malignant nodules of patients whom they have not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    Stages,
    cache_option,
    cache_size_option,
    device_option,
    echo_json,
    json_option,
    open_cache,
    output_option,
    pick_device,
    progress,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._implanted import interval_text

if TYPE_CHECKING:
    import torch

    from p2ch_luna.datasets.collection import Known, Sources
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.report.malignancy.figures import Judged
    from p2ch_luna.report.malignancy.run import Run
    from p2ch_luna.report.malignancy.schema import Auc, Figures, Gain, MalignancyReport, Reliability

MOST_PLACES = 64


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--nodules",
    type=click.Path(path_type=Path),
    help="Folder of nodules.csv and voi/: rated LIDC nodules; that of each RUN's config if left out.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A scan to set them into; repeatable; the validation hosts of each RUN's config if left out.",
)
@click.option(
    "--places",
    type=click.IntRange(1, MOST_PLACES),
    default=4,
    show_default=True,
    help="That each nodule is set into; the mean of its logits judges it.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the places.")
@output_option("Folder for the figures, the table of nodules and the plots.", "malignancy")
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
@json_option
def malignancy(
    runs: tuple[Path, ...],
    *,
    nodules: Path | None,
    hosts: tuple[Path, ...],
    places: int,
    seed: int,
    output: Path,
    cache_folder: Path | None,
    storage: str,
    cache_size: float,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Judge the nodules of the validation folds of each RUN once, against their diameter alone.

    RUN is a run's folder or a model file. The RUNs of a cross-validation are pooled: each nodule is judged
    by the one that has not seen its patient. OUT gets malignancy.json, malignancy.csv (a row a nodule) and
    malignancy.png (ROC, reliability, every nodule).

    \b
    luna malignancy runs/fold-* --nodules lidc -o out
    """
    from p2ch_luna.report.malignancy.figures import report_of
    from p2ch_luna.report.malignancy.files import write_files
    from p2ch_luna.report.malignancy.run import Run

    use_threads(threads)
    target, cache = pick_device(device), open_cache(cache_folder, storage, cache_size)
    with progress() as stages:
        loaded = [Run.load(path, target) for path in runs]
        judged, judges = _judge_all(loaded, nodules, hosts, places, seed, target, cache, stages)
    report, scores = report_of(judged, judges, places=places, seed=seed)
    write_files(output, report, judged, scores)
    if as_json:
        echo_json(report.model_dump(mode="json"))
        return
    click.echo("\n".join([*_table(report), "", f"written: {output}/malignancy.json, .csv, .png"]))


def _judge_all(
    runs: Sequence[Run],
    nodules: Path | None,
    hosts: Sequence[Path],
    places: int,
    seed: int,
    device: torch.device,
    cache: ScanCache,
    stages: Stages,
) -> tuple[Judged, list[dict[str, object]]]:
    """Every rated nodule of the validation folds of the runs, and what the report says of each run.

    All are looked at before the first is judged: an error at the end would be late.
    """
    from p2ch_luna.datasets.collection import load_share, read_known
    from p2ch_luna.report.malignancy.run import check_each_once, judge, pooled, rated_nodules

    known_of: dict[Sources, Known] = {}
    work, abouts = [], []
    stages.stage("reading nodules and scans", len(runs))
    for run in runs:
        sources = _sources(run, nodules, hosts)
        if sources not in known_of:  # the runs of a cross-validation share them
            known_of[sources] = read_known(sources)
        known = known_of[sources]
        share = load_share(known, sources, run.data["validation_folds"], cache, trains=False)
        work.append((run, share, rated_nodules(run, known, share)))
        abouts.append(run.about(known, share))
        stages.advance()
    check_each_once([(run.name, own) for run, _, own in work])
    opinions = []
    stages.stage("judging", sum(len(own) for *_, own in work))
    for run, share, own in work:
        found = [nodule for nodule, _ in own]
        opinions.append(
            judge(run, found, share, places=places, seed=seed, device=device, advance=stages.advance)
        )
    return pooled([own for *_, own in work], opinions), abouts


def _sources(run: Run, nodules: Path | None, hosts: Sequence[Path]) -> Sources:
    """What the run validated on, as far as a nodule is judged by it."""
    from p2ch_luna.config.tables import DataConfig
    from p2ch_luna.datasets.collection import Sources

    found = Sources(**DataConfig.model_validate(run.data).sources())
    return replace(
        found,
        hosts=(),
        validation_hosts=tuple(hosts or found.validation_hosts),
        scans=tuple(found.scans),
        candidates=(),
        lidc=nodules or found.lidc,
        cubes=None,
        cube_patients=None,
    )


def _table(report: MalignancyReport) -> Iterator[str]:
    """The figures for a person."""
    everyone = report.all
    counts = f"{everyone.malignant} malignant and {everyone.benign} benign nodules"
    yield f"{counts} of {report.patients} patients, each in {report.places} place(s)"
    yield ""
    yield f"{'':<24}AUC    95% interval    more than the diameter alone, 95% by patient"
    yield f"{'network':<24}{_auc_text(everyone.network)}  {_gain_text(everyone.network_gain)}".rstrip()
    if everyone.both is not None and everyone.both_gain is not None:
        told = f"{_auc_text(everyone.both)}  {_gain_text(everyone.both_gain)}"
        yield f"{'network and diameter':<24}{told}".rstrip()
    yield f"{'diameter alone':<24}{_auc_text(everyone.diameter)}".rstrip()
    yield f"in one place alone the network has an AUC of {_number(report.one_place_auc)}"
    yield ""
    yield "diameter     malignant  benign  network  both   diameter  network's gain"
    yield from map(_row, report.by_diameter)
    if len(report.by_run) > 1:
        yield ""
        yield "run          malignant  benign  network  both   diameter  network's gain"
        yield from map(_row, report.by_run)
    yield ""
    yield from _believed(report)
    yield ""
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield f"{report.suspicion} {report.statement}"


def _believed(report: MalignancyReport) -> Iterator[str]:
    """How far the probability can be taken at its word."""
    yield _reliability_text("probability as said", report.as_said)
    if report.with_temperature is not None:
        yield _reliability_text("with a temperature of the other runs", report.with_temperature)
    between = report.indeterminate
    yield (
        f"indeterminate: {between.nodules} nodules, mean probability {_number(between.mean_probability)}, "
        f"called malignant {_number(between.called_malignant)}"
    )


def _row(figures: Figures) -> str:
    both = None if figures.both is None else figures.both.auc
    areas = f"{_number(figures.network.auc):<7}  {_number(both):<5}  {_number(figures.diameter.auc):<8}"
    counts = f"{figures.name[-12:]:<13}{figures.malignant:9}  {figures.benign:6}"
    return f"{counts}  {areas}  {_gain_text(figures.network_gain)}".rstrip()


def _auc_text(area: Auc) -> str:
    return f"{_number(area.auc)}  {interval_text(area.auc_95):<14}"


def _gain_text(gain: Gain) -> str:
    if gain.difference is None:
        return ""
    by = "" if gain.by_patient_95 or not gain.difference_95 else " of independent nodules"
    return f"{gain.difference:+.3f} {interval_text(gain.interval_95)}{by}"


def _reliability_text(name: str, found: Reliability) -> str:
    return f"{name}: calibration error {found.calibration_error:.3f}, Brier {found.brier:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
