"""`luna lidc`: LUNA16's nodules with what LIDC's readers drew and rated."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import echo_json, json_option, progress
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.datasets.lidc_matching import Accounted, Evidence
    from p2ch_luna.findings import Nodule
    from p2ch_luna.geometry import ImageGeometry
    from p2ch_luna.io.lidc_tables import LidcTables

WITHIN_MM = (1.0, 2.0, 5.0)


@click.command()
@click.option(
    "--luna16",
    type=click.Path(path_type=Path),
    help="LUNA16's folder: its lists, and the headers of the scans that are there, also in zips.",
)
@click.option("--annotations", type=click.Path(path_type=Path), help="LUNA16's annotations.csv.")
@click.option("--excluded", type=click.Path(path_type=Path), help="LUNA16's annotations_excluded.csv.")
@click.option(
    "--crops",
    type=click.Path(path_type=Path),
    help="A folder of nodule crops: nodules.csv and voi/; they tell where their scans lie.",
)
@click.option(
    "--xml",
    type=click.Path(path_type=Path),
    help="TCIA's XML file or folder, in place of the tables that the package carries.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV to write, a row a nodule.")
@json_option
def lidc(
    *,
    luna16: Path | None,
    annotations: Path | None,
    excluded: Path | None,
    crops: Path | None,
    xml: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Find LUNA16's nodules among LIDC's and account for every one.

    The table tells how many were found and how far their centres are from LUNA16's, by the way in which
    the readers' pixels were brought to patient mm. The CSV tells of each nodule how many readers outlined
    it and what they thought of it: malignancy, subtlety, texture, calcification and so on.

    \b
    luna lidc --luna16 data/scans/luna16 -o nodules.csv
    """
    from p2ch_luna.datasets.catalogue import find_lists
    from p2ch_luna.datasets.lidc_matching import match_all
    from p2ch_luna.io import read_nodules

    if luna16 is not None and not luna16.is_dir():
        raise LunaError(f"{luna16}: not a folder; expected LUNA16's, with annotations.csv in it")
    lists = find_lists(luna16) if luna16 else None
    annotations = annotations or (lists.annotations if lists else None)
    if annotations is None:
        raise LunaError("no nodules to find: expected --luna16 with annotations.csv in it, or --annotations")
    with progress() as stages:
        stages.stage("reading")
        nodules = read_nodules(annotations)
        tables = _tables(xml)
        evidence = _evidence(tables, nodules, luna16, excluded or (lists.excluded if lists else None), crops)
        stages.stage("matching")
        accounted = match_all(tables, nodules, evidence)
    if output:
        _write(output, accounted)
    figures = _figures(accounted)
    if as_json:
        echo_json(figures)
    else:
        click.echo(_as_table(figures))
        click.echo("\n".join(_unmatched(accounted)), nl=figures["unmatched"] > 0)


def _tables(xml: Path | None) -> LidcTables:
    """The shipped tables, or those of XML, to which the shipped ones add patients and spacings."""
    from p2ch_luna.io.lidc_tables import load_lidc_tables
    from p2ch_luna.io.lidc_xml import read_lidc_xml

    shipped = load_lidc_tables()
    return read_lidc_xml(xml).completed_by(shipped) if xml else shipped


def _evidence(
    tables: LidcTables,
    nodules: Sequence[Nodule],
    luna16: Path | None,
    excluded: Path | None,
    crops: Path | None,
) -> Evidence:
    from p2ch_luna.datasets.lidc_matching import Evidence
    from p2ch_luna.io import read_nodules
    from p2ch_luna.io.lidc_grids import read_crop_grids

    headers, refused = _grids(tables, luna16, {n.series_uid for n in nodules}) if luna16 else ({}, {})
    return Evidence(
        headers=headers,
        refused=refused,
        excluded=read_nodules(excluded) if excluded else [],
        crops=read_crop_grids(crops) if crops else {},
    )


def _grids(
    tables: LidcTables, luna16: Path, series_uids: Collection[str]
) -> tuple[dict[str, ImageGeometry], dict[str, str]]:
    """The grids of these series, from the headers of LUNA16's scans, and why others' cannot be used."""
    from p2ch_luna.datasets.catalogue import index_scans, problem_of
    from p2ch_luna.datasets.lidc_matching import check_grid

    try:
        catalogue = index_scans([luna16])
    except LunaError as error:  # the lists serve alone, but a folder given in error should be noticed
        click.echo(f"luna: {error}; going on by the lists alone", err=True)
        return {}, {}
    grids, problems = {}, [p for p in catalogue.problems if p.series_uid in {"", *series_uids}]
    for source in catalogue.sources:
        if source.series_uid in series_uids:
            try:
                _, grid = source.grid()
                check_grid(tables, source.series_uid, grid)
                grids[source.series_uid] = grid
            except LunaError as error:
                problems.append(problem_of(source, error))
    refused = {}
    for problem in problems:
        refused[problem.series_uid] = reason = problem.reason.removeprefix(f"{problem.series_uid}: ")
        click.echo(f"luna: warning: {problem.where}: {reason}; it is not used", err=True)
    return grids, refused


def _figures(accounted: Sequence[Accounted]) -> dict[str, Any]:
    """All figures, as plain numbers."""
    from collections import Counter

    from p2ch_luna.datasets.lidc_labels import malignancy_of
    from p2ch_luna.datasets.lidc_matching import METHODS

    found = [a.match.finding for a in accounted if a.match.finding]
    classes = Counter(malignancy_of(finding.ratings.malignancy) or "not rated" for finding in found)
    groups = {method: [a for a in accounted if a.method == method] for method in METHODS}
    return {
        "nodules": len(accounted),
        "matched": len(found),
        "unmatched": len(accounted) - len(found),
        "methods": {method: _group(group) for method, group in groups.items() if group},
        "all": _group(accounted),
        "readers": {str(n): count for n, count in sorted(Counter(f.readers for f in found).items())},
        "malignancy": dict(sorted(classes.items())),
    }


def _group(accounted: Sequence[Accounted]) -> dict[str, Any]:
    """Counts, distances in mm and the correlation of the diameters of some nodules."""
    import numpy as np

    matches = [a.match for a in accounted]
    distance = np.array([m.distance_mm for m in matches if m.distance_mm is not None])
    pairs = np.array([(m.nodule.diameter_mm, m.finding.diameter_mm) for m in matches if m.finding])
    varies = len(pairs) > 1 and (pairs.std(axis=0) > 0).all()
    return {
        "series": len({m.nodule.series_uid for m in matches}),
        "nodules": len(matches),
        "matched": len(distance),
        "mean_mm": float(distance.mean()) if len(distance) else None,
        "median_mm": float(np.median(distance)) if len(distance) else None,
        "max_mm": float(distance.max()) if len(distance) else None,
        "within_mm": {f"{limit:g}": int((distance <= limit).sum()) for limit in WITHIN_MM},
        "diameter_correlation": float(np.corrcoef(pairs.T)[0, 1]) if varies else None,
    }


def _as_table(figures: dict[str, Any]) -> str:
    """The figures for a person."""
    from p2ch_luna.datasets.lidc_matching import METHODS

    columns = "series nodules matched  mean median    max  <=1  <=2  <=5  diameters' r"
    lines = [f"{'x and y of the pixels from':<46} {columns}"]
    lines += [_line(METHODS[method], group) for method, group in figures["methods"].items()]
    lines += [_line("all", figures["all"]), ""]
    lines.append(f"{figures['matched']} of {figures['nodules']} nodules matched; distances of centres in mm")
    if any(METHODS[method].startswith("NO ORIGIN") for method in figures["methods"]):
        lines.append("NO ORIGIN: a shift in x and y is fitted away, so these distances say less")
    lines.append("readers: " + ", ".join(f"{n}: {count}" for n, count in figures["readers"].items()))
    lines.append("malignancy: " + ", ".join(f"{k} {count}" for k, count in figures["malignancy"].items()))
    return "\n".join(lines)


def _line(name: str, group: dict[str, Any]) -> str:
    counts = f"{group['series']:6} {group['nodules']:7} {group['matched']:7}"
    lengths = " ".join(_number(group[key], 2, 6) for key in ("mean_mm", "median_mm", "max_mm"))
    within = " ".join(f"{count:4}" for count in group["within_mm"].values())
    return f"{name:<46} {counts} {lengths} {within} {_number(group['diameter_correlation'], 4, 13)}"


def _number(value: float | None, digits: int, width: int) -> str:
    return f"{value:{width}.{digits}f}" if value is not None else f"{'-':>{width}}"


def _unmatched(accounted: Sequence[Accounted]) -> list[str]:
    return [
        f"unmatched: {a.patient_id or a.match.nodule.series_uid} at {a.match.nodule.center_xyz}, "
        f"{a.match.nodule.diameter_mm:.1f} mm: {a.reason}"
        for a in accounted
        if a.match.finding is None
    ]


def _write(path: Path, accounted: Sequence[Accounted]) -> None:
    """One row a nodule; cells are empty where nothing is known."""
    from p2ch_luna.files import replacing
    from p2ch_luna.io.lidc_tables import CHARACTERISTICS
    from p2ch_luna.io.tables import NODULE_COLUMNS

    ours = ("lidc_x", "lidc_y", "lidc_z", "lidc_diameter_mm", "distance_mm", "readers", "annotation_ids")
    header = [*NODULE_COLUMNS, "patient_id", "method", *ours, *CHARACTERISTICS, "malignancy_class", "reason"]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *map(_row, accounted)])


def _row(accounted: Accounted) -> list[str | float | None]:
    from p2ch_luna.datasets.lidc_labels import Ratings, malignancy_of

    match, nodule, finding = accounted.match, accounted.match.nodule, accounted.match.finding
    head = [nodule.series_uid, *nodule.center_xyz, nodule.diameter_mm, accounted.patient_id, accounted.method]
    if finding is None:
        return [*head, *[None] * (7 + len(Ratings._fields) + 1), accounted.reason]
    ids = " ".join(map(str, finding.annotation_ids))
    found = [*finding.center_xyz, finding.diameter_mm, match.distance_mm, finding.readers, ids]
    return [*head, *found, *finding.ratings, malignancy_of(finding.ratings.malignancy), accounted.reason]
