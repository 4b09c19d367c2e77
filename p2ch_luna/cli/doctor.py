"""`luna doctor`: whether this machine is fit, and what to do where it is not."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import echo_json, json_option

if TYPE_CHECKING:
    from p2ch_luna.report.doctor import Remark

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
_STATE_WIDTH, _SUBJECT_WIDTH = 9, 17


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say whether luna works on this machine, and what to do where it does not.

    Looks at versions, the networks, processors, memory, GPU, precision and the folders that are written to.
    Exits with 1 only where something keeps luna diagnose from working; a note may be left alone.

    \b
    luna doctor
    luna doctor --json > doctor.json         to go with a question
    """
    from p2ch_luna.report.doctor import examine

    states: Counter[str] = Counter()
    told = []
    for check, remarks in examine():
        states.update(remark.state for remark in remarks)
        told += [{"check": check, **asdict(remark)} for remark in remarks]
        if not as_json:
            _tell(check, remarks)
    is_fit = not states["problem"]
    if as_json:
        echo_json({"is_fit": is_fit, "remarks": told})
    else:
        _echo(f"\n{_verdict(states)}")
    ctx.exit(0 if is_fit else 1)


def _tell(check: str, remarks: list[Remark]) -> None:
    """A heading and a line each, with what to do below it."""
    _echo(click.style(check, bold=True))
    for remark in remarks:
        state = click.style(f"{remark.state:{_STATE_WIDTH}}", fg=_COLOURS[remark.state])
        _echo(f"  {state}{remark.subject:{_SUBJECT_WIDTH}}{remark.found}")
        if remark.advice:
            _echo(f"  {'':{_STATE_WIDTH + _SUBJECT_WIDTH}}-> {remark.advice}")


def _verdict(states: Counter[str]) -> str:
    """What it comes to."""
    counts = ", ".join(
        f"{states[name]} {name}{'s' * (name != 'ok' and states[name] > 1)}"
        for name in _COLOURS
        if states[name]
    )
    if states["problem"]:
        return click.style(f"luna diagnose will not work here: {counts}", fg="red", bold=True)
    return click.style(f"luna diagnose will work here: {counts}", fg="green", bold=True)


def _echo(line: str) -> None:
    """Print it, whatever the terminal can show: names of folders may hold anything."""
    click.echo(line.encode(_encoding(), "replace").decode(_encoding()))


def _encoding() -> str:
    return (sys.stdout and sys.stdout.encoding) or "utf-8"  # there is no stdout where it was closed
