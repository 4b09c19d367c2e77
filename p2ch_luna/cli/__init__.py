"""The command `luna`. Each subcommand is a module of its name, imported when it is called."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from collections.abc import Sequence

import click

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.processes import terminable

COMMANDS = {  # name: (where it is, what it does in one line), in the order of `luna --help`
    "diagnose": ("p2ch_luna.cli.diagnose:diagnose", "Find and measure nodules in CT, one scan or many."),
    "compare": ("p2ch_luna.cli.compare:compare", "Say what has grown since an earlier scan."),
    "serve": ("p2ch_luna.cli.serve:serve", "Serve diagnosis over HTTP, with a web page."),
    "dicomweb": ("p2ch_luna.cli.dicomweb:dicomweb", "Diagnose studies of a DICOMweb server."),
    "demo": ("p2ch_luna.cli.demo:demo", "Make a phantom chest CT and find its nodules."),
    "example": ("p2ch_luna.cli.example:example", "Fetch a real, complete LUNA16 scan."),
    "phantom": ("p2ch_luna.cli.phantom:phantom", "Write a synthetic chest CT with known nodules."),
    "implant": ("p2ch_luna.cli.implant:implant", "Blend real nodules into a CT of your own."),
    "prepare": ("p2ch_luna.cli.prepare:prepare", "Prepare scans for training, once: LUNA16 or your own."),
    "info": ("p2ch_luna.cli.info:info", "Say what a scan, a folder, a cache or a model is."),
    "doctor": ("p2ch_luna.cli.doctor:doctor", "Say whether luna works on this machine."),
    "schema": ("p2ch_luna.cli.schema:schema", "Print the JSON Schema of report.json or comparison.json."),
    "card": ("p2ch_luna.cli.card:card", "Say what a model is, how good it is and where it fails."),
    "export": ("p2ch_luna.cli.export:export", "Write a network for programs without Python."),
    "lidc": ("p2ch_luna.cli.lidc:lidc", "Match LUNA16's nodules with LIDC's outlines and ratings."),
    "train": ("p2ch_luna.cli.train:train", "Train a network from a config."),
    "crossval": ("p2ch_luna.cli.crossval:crossval", "Train every fold in turn and score all held-out scans."),
    "runs": ("p2ch_luna.cli.runs:runs", "List the runs with their best metrics."),
    "config": ("p2ch_luna.cli.config:config", "Show or check a config."),
    "mine": ("p2ch_luna.cli.mine:mine", "Collect the candidates that the nodule classifier learns from."),
    "cache": ("p2ch_luna.cli.cache:cache", "Show, check or empty the store of prepared scans."),
    "evaluate": ("p2ch_luna.cli.evaluate:evaluate", "Score detections by the rules of LUNA16."),
    "benchmark": ("p2ch_luna.cli.benchmark:benchmark", "Measure the networks on scans of your own."),
    "calibrate": ("p2ch_luna.cli.calibrate:calibrate", "Make the networks' probability mean what it says."),
    "robustness": ("p2ch_luna.cli.robustness:robustness", "See what other slices, noise and kernels do."),
    "malignancy": ("p2ch_luna.cli.malignancy:malignancy", "Measure how malignancy is told, by patient."),
    "bench": ("p2ch_luna.cli.bench:bench", "Measure how fast things are on this machine."),
}


class LazyGroup(click.Group):
    """Knows its commands from `COMMANDS` and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by the table alone, so that `luna --help` imports none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="luna")
def cli() -> None:
    """Find lung nodules in CT. Research only, not a medical device.

    \b
    luna example                                           a real scan to try
    luna diagnose data/scans/lidc-idri-0001/dicom -o out   its findings, in out/
    """


class _WarningLine(logging.Handler):
    """One line on stderr a record; looks stderr up each time, so it does not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"luna: {record.levelname.lower()}: {record.getMessage()}", err=True)


_WARNING_LINE = _WarningLine(logging.WARNING)  # one, so that adding it twice changes nothing


def main(args: Sequence[str] | None = None) -> None:
    """Run `luna` and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated."""
    logging.getLogger("p2ch_luna").addHandler(_WARNING_LINE)
    sys.exit(_exit_code(args))


def _exit_code(args: Sequence[str] | None) -> int:
    """Run one command and say what went wrong in one line; a bug shows its traceback.

    Of a closed pipe, as of `luna ... | head`, click takes care: it exits with 1 without a word.
    """
    try:
        with terminable():
            code = cli.main(args, prog_name="luna", standalone_mode=False)
    except LunaError as error:
        click.echo(f"luna: error: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as asked:  # click's word for a KeyboardInterrupt
        return _interrupted(asked.__cause__ or asked.__context__)
    except KeyboardInterrupt as asked:
        return _interrupted(asked)
    return code if isinstance(code, int) else 0


def _interrupted(by: BaseException | None) -> int:
    """The exit code of a shell for the signal; what was half done has been cleaned up by now."""
    number = by.args[0] if isinstance(by, KeyboardInterrupt) and by.args else signal.SIGINT
    click.echo("luna: interrupted" if number == signal.SIGINT else "luna: terminated", err=True)
    return 128 + int(number)
