"""`luna card`: what a model is, from what it was made, how good it is and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import echo_json, json_option
from p2ch_luna.cli._models import BUNDLED, model_at

if TYPE_CHECKING:
    from p2ch_luna.models.checkpoint import ModelCard


@click.command()
@click.argument("model")
@click.option(
    "--add",
    "files",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Put the figures of a benchmark.json, robustness.json or malignancy.json into the card, and what "
    "they show of its failures; repeatable.",
)
@click.option(
    "--known-failure",
    "failures",
    multiple=True,
    metavar="TEXT",
    help="Put a failure seen by eye into the card; repeatable.",
)
@click.option("--patients", is_flag=True, help="Name all patients and scans, not only how many they are.")
@click.option("--markdown", is_flag=True, help="Print it as Markdown.")
@json_option
def card(
    model: str,
    *,
    files: tuple[Path, ...],
    failures: tuple[str, ...],
    patients: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Print the card of MODEL: its use, data, patients, figures, operating points and known failures.

    MODEL is a .safetensors file, the folder of a run, or one of the words segmentation, nodule and
    malignancy, the models that come with the package.

    Figures of the same name and conditions replace each other, the rest of the card stays; a file that was
    measured with other weights is refused.

    \b
    luna card nodule
    luna card runs/nodule-20260101-120000 --add out/benchmark.json --known-failure "masses at the hilum"
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown: wanted one of them")
    from p2ch_luna.report.card.sections import sections
    from p2ch_luna.report.card.text import as_markdown, as_text

    weights = model_at(model)
    found = _checked(weights)
    if files or failures:
        found = _added(found, weights, files, failures)
    title = f"{model if model in BUNDLED else weights}: {found.config.get('task', found.builder)}"
    title = f"The bundled {model} network" if model in BUNDLED else title
    if as_json:
        echo_json(_facts(found, weights, patients=patients))
    elif markdown:
        click.echo(as_markdown(title, sections(found, weights, patients=patients)), nl=False)
    else:
        click.echo(as_text(title, sections(found, weights, patients=patients)))


def _checked(weights: Path) -> ModelCard:
    """The card, if it is of these weights."""
    from p2ch_luna.models.checkpoint import load_card

    found = load_card(weights)
    found.check(weights, weights.read_bytes())
    return found


def _added(found: ModelCard, weights: Path, files: tuple[Path, ...], failures: tuple[str, ...]) -> ModelCard:
    """The card with what the files say; written whole, and only if all of them are good."""
    from p2ch_luna.files import replacing
    from p2ch_luna.models.checkpoint import card_path
    from p2ch_luna.report.card.figures import add_failures, add_file

    for path in files:
        found = add_file(found, path)
    found = add_failures(found, failures)
    with replacing(card_path(weights)) as temporary:
        temporary.write_text(found.to_json(), encoding="utf-8")
    return found


def _facts(found: ModelCard, weights: Path, *, patients: bool) -> dict[str, Any]:
    """The card as it is stored, and what the file adds; of the split only counts, unless `patients`."""
    from p2ch_luna.report.card.sections import count_parameters

    stored = found.model_dump(mode="json")
    counts = {role: len(members) for role, members in found.split.items()}
    return {
        "path": str(weights),
        "bytes": weights.stat().st_size,
        "parameters": count_parameters(weights),
        **stored,
        "split": stored["split"] if patients else counts,
    }
