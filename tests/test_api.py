"""What programs rely on, written down by hand: a change here is a change of the version (docs/api.md)."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest

import p2ch_luna
from p2ch_luna.cli import cli
from p2ch_luna.io.tables import DETECTION_COLUMNS
from p2ch_luna.report.many.summary import Row
from p2ch_luna.report.schema import Finding, Report

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")

PUBLIC = ["LunaError", "NoduleDetector", "Report", "__version__", "diagnose"]
SIGNATURES = {
    "p2ch_luna:diagnose": (
        "(scan: 'Path | str', output: 'Path | str | None' = None, *, "
        "detector: 'NoduleDetector | None' = None, series_uid: 'str | None' = None, "
        "fp_per_scan: 'float | None' = None, wanted: 'Wanted' = Wanted(page=True, dicom=True), "
        "progress: 'Progress | None' = None) -> 'Report'"
    ),
    "p2ch_luna:NoduleDetector.load": (
        "(segmentation: 'Path | str | None' = None, classifier: 'Path | str | None' = None, "
        "device: 'torch.device | str' = 'cpu', malignancy: 'Path | str | None' = None, "
        "runtime: 'Runtime' = 'torch') -> 'NoduleDetector'"
    ),
    "p2ch_luna:NoduleDetector.__call__": (
        "(self, ct: 'CtVolume', progress: 'Progress | None' = None) -> 'Diagnosis'"
    ),
    "p2ch_luna.geometry:ImageGeometry.to_xyz": "(self, irc: 'ArrayLike') -> 'NDArray[np.float64]'",
    "p2ch_luna.geometry:ImageGeometry.to_irc": "(self, xyz: 'ArrayLike') -> 'NDArray[np.float64]'",
    "p2ch_luna.io:read_ct": "(path: 'Path | str', series_uid: 'str | None' = None) -> 'CtVolume'",
    "p2ch_luna.io:write_ct": "(path: 'Path | str', ct: 'CtVolume') -> 'None'",
    "p2ch_luna.inference.detector:Progress.stage": (
        "(self, text: 'str', total: 'float | None' = None) -> 'None'"
    ),
    "p2ch_luna.inference.detector:Progress.advance": "(self, steps: 'float' = 1) -> 'None'",
}
FIELDS = {  # in their order, as they may be given by position; more may follow
    "p2ch_luna.findings:Detection": (
        "series_uid center_xyz probability diameter_mm volume_mm3 segmentation_probability "
        "classifier_probability malignancy_probability"
    ),
    "p2ch_luna.geometry:CtVolume": "series_uid hu geometry",
    "p2ch_luna.geometry:ImageGeometry": "origin_xyz spacing_xyz direction",
    "p2ch_luna.inference:Diagnosis": "series_uid detections warnings timings_s",
    "p2ch_luna.report.outputs:Wanted": "page dicom",
}
# Of each: arguments (... any number), options with their short names, = defaults, ! where one is required
COMMAND_LINES = dict(
    line.split(": ", 1)
    for line in (Path(__file__).parent / "commands.txt").read_text(encoding="utf-8").splitlines()
)
DETECTION_TABLE = "seriesuid coordX coordY coordZ probability"
SUMMARY_TABLE = (
    "name scan series_uid findings largest_mean_diameter_mm highest_probability highest_suspicion warnings "
    "seconds error"
)
REPORT_3 = (  # of report.json's schema 3.x
    "schema_version software statement malignancy_is scan is_searched findings rejected warnings models "
    "settings files timings_s"
)
FINDING_3 = (
    "id rank center_lps_mm voxel_irc slice_index slice_number label tracking_uid side third is_cut_off "
    "pleura_mm longest_mm perpendicular_mm mean_diameter_mm longest_lps_mm perpendicular_lps_mm diameter_mm "
    "volume_mm3 mean_hu texture solid_mm lung_rads nodule_probability segmentation_probability "
    "classifier_probability malignancy_probability malignancy_by_diameter images"
)


def named(address: str) -> object:
    """What `module:Name.attribute` is."""
    module, _, path = address.partition(":")
    found: object = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_the_public_names_are_these() -> None:
    assert sorted(p2ch_luna.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(p2ch_luna, name)


def test_the_public_names_are_shown_before_they_are_asked_for() -> None:
    code = f"import p2ch_luna; assert set({PUBLIC}) <= set(dir(p2ch_luna))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'p2ch_luna' has no attribute 'diagnosis'"):
        p2ch_luna.diagnosis  # noqa: B018


def test_the_error_is_had_without_torch() -> None:
    code = "import sys, p2ch_luna; p2ch_luna.LunaError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("address", "signature"), SIGNATURES.items())
def test_a_signature_is_as_it_was(address: str, signature: str) -> None:
    function = named(address)
    assert callable(function)
    assert str(inspect.signature(function)) == signature


@pytest.mark.parametrize(("address", "names"), FIELDS.items())
def test_fields_are_as_they_were(address: str, names: str) -> None:
    known = names.split()
    assert [field.name for field in fields(named(address))][: len(known)] == known  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [*SIGNATURES, *FIELDS])
def test_the_page_names_what_is_held(address: str) -> None:
    module, _, path = address.partition(":")
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{module}` |"))
    assert f"`{path.split('.')[0]}`" in row


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def word(parameter: click.Parameter) -> str:
    """A parameter as `COMMAND_LINES` has it."""
    default = parameter.to_info_dict()["default"]
    values = default if isinstance(default, tuple | list) else (default,)
    given = ",".join(str(value) for value in values if value is not None and value is not False)
    many = "..." if parameter.nargs == -1 else ""
    return "/".join(parameter.opts) + many + (f"={given}" if given else "") + "!" * parameter.required


def test_every_command_is_written_down() -> None:
    assert [name for name, _ in commands(cli)] == list(COMMAND_LINES)


@pytest.mark.parametrize(("name", "known"), COMMAND_LINES.items())
def test_no_option_or_default_of_a_command_is_gone(name: str, known: str) -> None:
    assert set(map(word, dict(commands(cli))[name].params)) >= set(known.split())


@pytest.mark.parametrize(("name", "known"), COMMAND_LINES.items())
def test_arguments_are_in_the_order_they_were(name: str, known: str) -> None:
    there = [word(one) for one in dict(commands(cli))[name].params if isinstance(one, click.Argument)]
    assert there == [one for one in known.split() if not one.startswith("-")]


def test_columns_of_detections_are_as_they_were() -> None:
    assert " ".join(DETECTION_COLUMNS).startswith(DETECTION_TABLE)


def test_columns_of_the_summary_are_as_they_were() -> None:
    assert " ".join(field.name for field in fields(Row)).startswith(SUMMARY_TABLE)


@pytest.mark.parametrize(("model", "keys"), [(Report, REPORT_3), (Finding, FINDING_3)])
def test_no_key_of_a_report_is_gone(model: type[Report | Finding], keys: str) -> None:
    assert set(model.model_fields) >= set(keys.split())


def test_these_keys_are_of_the_schema_that_is_written() -> None:
    assert Report.model_fields["schema_version"].default.partition(".")[0] == "3"


def test_the_version_is_a_semantic_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", p2ch_luna.__version__)
