"""`luna export`: a network as files for programs without Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import echo_json, json_option, output_option, progress
from p2ch_luna.cli._models import BUNDLED, model_at

if TYPE_CHECKING:
    from p2ch_luna.export.schema import Export, FormatName

FORMATS = ("onnx", "openvino", "torch-export", "torchscript")


@click.command()
@click.argument("model")
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    required=True,
    help="What to write; repeatable.",
)
@output_option(help="Folder for the files; made if it is not there.")
@json_option
def export(model: str, formats: tuple[FormatName, ...], output: Path, *, as_json: bool) -> None:
    """Write MODEL in formats that other programs compute, and compare each file with it.

    MODEL is a .safetensors file with its card (.json, of the same name) beside it, the folder of a run, or
    one of the words segmentation, nodule and malignancy, the models that come with the package. OUTPUT gets
    NAME.onnx, NAME.xml and NAME.bin, NAME.pt2 or NAME.ts.pt; NAME.json, the model's card; and
    NAME.export.json: inputs, outputs, sizes, hashes and how far the answers are from torch's. A CT goes in
    as HU, at 1 mm, in batches of any number, with sides that are multiples of 16 for these networks. A file
    whose probabilities differ by more than 0.001 or logits by more than 0.01 is refused.

    \b
    luna export segmentation --format onnx -o exported
    luna export runs/nodule-20260101-120000 --format openvino --format torchscript -o exported
    """
    weights, name = model_at(model), _name(model)
    from p2ch_luna.export.run import export_model, sidecar

    with progress() as stages:
        made = export_model(weights, name, formats, output, stages.stage)
    if as_json:
        echo_json(made.model_dump(mode="json"))
    else:
        click.echo("\n".join([*_lines(made), f"{output / sidecar(name)} tells all of them"]))


def _name(model: str) -> str:
    """What its exported files are called: as the bundled network, the file, or the folder of the run."""
    path = Path(model).resolve()
    return model if model in BUNDLED else path.stem if path.is_file() else path.name


def _lines(made: Export) -> list[str]:
    return [
        f"{one.files[0]}: {one.format}, differs from torch by {one.largest_difference:.1g} at most "
        f"({one.runtime})"
        for one in made.files
    ]
