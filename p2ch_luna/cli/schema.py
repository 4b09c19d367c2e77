"""`luna schema`: what the JSON files hold, for a program that reads them."""

from __future__ import annotations

import click


@click.command()
@click.argument("what", type=click.Choice(["report", "comparison"]), default="report")
def schema(what: str) -> None:
    """Print the JSON Schema of report.json, or of comparison.json.

    \b
    luna schema > report.schema.json
    luna schema comparison > comparison.schema.json
    """
    from p2ch_luna.cli._common import echo_json
    from p2ch_luna.report.comparison.schema import Comparison
    from p2ch_luna.report.schema import Report

    model = Report if what == "report" else Comparison
    echo_json(model.model_json_schema())
