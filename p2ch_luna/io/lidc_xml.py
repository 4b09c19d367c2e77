"""The readers' annotations of LIDC-IDRI as The Cancer Imaging Archive has them, one XML file a series."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_tables import (
    CHARACTERISTICS,
    Drawn,
    LidcAnnotation,
    LidcScan,
    LidcTables,
    Outline,
    tables_of,
)

_NAMESPACE = "{http://www.nih.gov}"
_ROOT = f"{_NAMESPACE}LidcReadMessage"
_TAGS = dict.fromkeys(CHARACTERISTICS, "") | {name: name for name in CHARACTERISTICS}
_TAGS["internal_structure"] = "internalStructure"
_TRUTH = {"true": True, "false": False}
_HIGHEST_RATING = 6
_INT16 = np.iinfo(np.int16)


class _NoDoctype(TreeBuilder):
    """Refuses a document type, without which no entity can be declared, so none can blow up."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError(f"it declares a document type {name!r}")


def read_lidc_xml(path: Path) -> LidcTables:
    """Read one XML file, or all of a folder and the folders in it, into tables.

    Nodules under 3 mm (one point, no ratings) and places that are no nodule are left out, and so are
    messages of other kinds, as those on chest X-rays. Annotations are numbered from 1, files in the order of
    their names. The files name no patient and no spacing: these are None.
    Raises LunaError, naming the file, where one is no XML or lacks something, or two are of one series.
    """
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    drawn: list[Drawn] = []
    series: dict[str, Path] = {}
    for file in files:
        root = _parse(file)
        if root.tag != _ROOT:
            continue
        uid = _text(file, _child(file, root, "ResponseHeader"), "SeriesInstanceUid")
        if uid in series:
            raise LunaError(f"{file}: series {uid} is in {series[uid]} too; expected it once")
        series[uid] = file
        drawn += _drawn(file, root, len(series), len(drawn) + 1)
    if not series:
        raise LunaError(
            f"{path}: no LidcReadMessage in {len(files)} XML file(s); expected TCIA's of LIDC-IDRI"
        )
    scans = [LidcScan(number, uid, None, None, None, None) for number, uid in enumerate(series, start=1)]
    return tables_of(scans, drawn)


def _parse(path: Path) -> Element:
    try:
        parser = XMLParser(target=_NoDoctype())
        parser.feed(path.read_bytes())
        root: Element = parser.close()
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror or error}; expected XML") from error
    except (ParseError, ValueError) as error:
        raise LunaError(f"{path}: no plain XML: {error}; expected TCIA's annotations of LIDC-IDRI") from error
    return root


def _drawn(path: Path, root: Element, scan_id: int, number: int) -> list[Drawn]:
    """All readers' nodules of at least 3 mm, numbered from `number`."""
    found: list[Drawn] = []
    for nodule in root.iterfind(f"{_NAMESPACE}readingSession/{_NAMESPACE}unblindedReadNodule"):
        name = _text(path, nodule, "noduleID")
        outlines = [_outline(path, roi) for roi in nodule.iterfind(f"{_NAMESPACE}roi")]
        ratings = _ratings(path, nodule)
        if not any(ratings) and all(len(outline.points_xy) == 1 for outline in outlines):
            continue  # smaller
        if not outlines:
            raise LunaError(f"{path}: nodule {name!r} has no roi; expected its outlines")
        found.append(Drawn(scan_id, LidcAnnotation(number + len(found), name, ratings), outlines))
    return found


def _ratings(path: Path, nodule: Element) -> tuple[int | None, ...]:
    """In the order of CHARACTERISTICS; a characteristic that is absent or empty is not rated."""
    given = nodule.find(f"{_NAMESPACE}characteristics")
    texts = [
        "" if given is None else given.findtext(_NAMESPACE + _TAGS[name], "") for name in CHARACTERISTICS
    ]
    for name, text in zip(CHARACTERISTICS, texts, strict=True):
        if text.strip() and not (text.strip().isdecimal() and 1 <= int(text) <= _HIGHEST_RATING):
            raise LunaError(f"{path}: {_TAGS[name]} is {text!r}; expected 1 to {_HIGHEST_RATING}")
    return tuple(int(text) if text.strip() else None for text in texts)


def _outline(path: Path, roi: Element) -> Outline:
    z_mm = _number(path, roi, "imageZposition")
    inclusion = _text(path, roi, "inclusion").lower()
    if inclusion not in _TRUTH:
        raise LunaError(f"{path}: inclusion is {inclusion!r}; expected TRUE or FALSE")
    points = [
        (_pixel(path, edge, "xCoord"), _pixel(path, edge, "yCoord"))
        for edge in roi.iterfind(f"{_NAMESPACE}edgeMap")
    ]
    if not points:
        raise LunaError(f"{path}: a roi at z {z_mm:g} mm has no edgeMap; expected at least one point")
    return Outline(z_mm, _TRUTH[inclusion], np.array(points, np.int16))


def _pixel(path: Path, element: Element, tag: str) -> int:
    value = _number(path, element, tag)
    if not (value.is_integer() and _INT16.min <= value <= _INT16.max):
        raise LunaError(f"{path}: {tag} is {value:g}; expected the number of a pixel")
    return int(value)


def _number(path: Path, element: Element, tag: str) -> float:
    text = _text(path, element, tag)
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise LunaError(f"{path}: {tag} is {text!r}; expected a number")
    return value


def _text(path: Path, element: Element, tag: str) -> str:
    text = (_child(path, element, tag).text or "").strip()
    if not text:
        raise LunaError(f"{path}: {tag} is empty; expected a value")
    return text


def _child(path: Path, element: Element, tag: str) -> Element:
    child = element.find(_NAMESPACE + tag)
    if child is None:
        parent = element.tag.removeprefix(_NAMESPACE)
        raise LunaError(f"{path}: {parent} has no {tag}; expected it, as in TCIA's annotations of LIDC-IDRI")
    return child
