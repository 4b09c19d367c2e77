"""`luna compare`: what has become of the nodules of an earlier scan."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import json_option, progress

if TYPE_CHECKING:
    from p2ch_luna.report.comparison.run import Diagnosed
    from p2ch_luna.report.comparison.schema import Comparison

COMPARISON, PICTURE = "comparison.json", "comparison.png"

date_type = click.DateTime(formats=["%Y-%m-%d", "%Y%m%d"])


@click.command()
@click.argument("prior", type=click.Path(path_type=Path))
@click.argument("current", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"Folder for {COMPARISON} and {PICTURE}, pairs of pictures; made if it is not there.",
)
@click.option("--days", type=click.IntRange(min=1), help="From the earlier scan to the later.")
@click.option("--prior-date", type=date_type, metavar="YYYY-MM-DD", help="Of the scans, in place of --days.")
@click.option("--current-date", type=date_type, metavar="YYYY-MM-DD", help="As above.")
@json_option
def compare(
    prior: Path,
    current: Path,
    *,
    output: Path | None,
    days: int | None,
    prior_date: datetime | None,
    current_date: datetime | None,
    as_json: bool,
) -> None:
    """Say which nodules have grown, are new or are gone.

    PRIOR and CURRENT are folders that `luna diagnose` has written, of an earlier and a later scan of the same
    patient. The lungs are laid over each other, and the findings paired by their places. A report holds no
    dates, for they tell of the patient: give --days, or the dates, for volume doubling times. Positions are
    LPS mm. Research use only; not a medical device.

    \b
    luna compare out-2023 out-2024 --days 365 -o compared
    luna compare out-2023 out-2024 --prior-date 2023-03-01 --current-date 2024-03-12
    """
    days = _days(days, prior_date, current_date)
    from p2ch_luna.report.comparison.run import compare as run
    from p2ch_luna.report.comparison.run import read_both

    with progress() as stages:
        stages.stage("reading")
        earlier, later = read_both(prior, current)
        comparison = run(earlier, later, days, stages)
        if output:
            _write(output, comparison, earlier, later)
    _tell(comparison, output, as_json=as_json)


def _days(days: int | None, prior: datetime | None, current: datetime | None) -> int | None:
    """From --days or the two dates; None where neither is given."""
    if prior is None and current is None:
        return days
    if days is not None:
        raise click.UsageError("--days and dates are given; wanted one of them.")
    if prior is None or current is None:
        raise click.UsageError("one date is given; wanted --prior-date and --current-date.")
    if current <= prior:
        raise click.UsageError(
            f"--current-date {current:%Y-%m-%d} is not after --prior-date {prior:%Y-%m-%d}."
        )
    return (current - prior).days


def _write(output: Path, comparison: Comparison, prior: Diagnosed, current: Diagnosed) -> None:
    """Both files or, where the folder cannot be written, none."""
    from p2ch_luna.files import replacing
    from p2ch_luna.report.comparison.picture import write_pairs

    with replacing(output / PICTURE) as picture, replacing(output / COMPARISON) as text:
        write_pairs(picture, comparison, prior, current)
        text.write_text(comparison.to_json(), encoding="utf-8")


def _tell(comparison: Comparison, output: Path | None, *, as_json: bool) -> None:
    from p2ch_luna.report.comparison.text import as_text

    click.echo(comparison.to_json() if as_json else as_text(comparison), nl=not as_json)
    if output:
        click.echo(f"{output / COMPARISON} written, beside it {PICTURE}", err=True)
