"""`luna schema`: what a report.json holds, for a program that reads it."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of report.json.

    \b
    luna schema > report.schema.json
    """
    from p2ch_luna.cli._common import echo_json
    from p2ch_luna.report.schema import Report

    echo_json(Report.model_json_schema())
