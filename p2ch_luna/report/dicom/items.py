"""Items of a structured report's tree, and a finding's group of them (TID 1411; TID 1501 without a SEG)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from p2ch_luna import __version__
from p2ch_luna.findings import Point
from p2ch_luna.report.dicom import codes as terms
from p2ch_luna.report.dicom.codes import Term, code
from p2ch_luna.report.dicom.seg import WrittenSeg
from p2ch_luna.report.dicom.sources import MANUFACTURER, Sources
from p2ch_luna.report.schema import Finding

if TYPE_CHECKING:
    from highdicom.sr import (
        ContainerContentItem,
        ContentItem,
        ContentSequence,
        Measurement,
        QualitativeEvaluation,
        Scoord3DContentItem,
        TextContentItem,
    )

Relation = Literal["CONTAINS", "INFERRED FROM"]


def container(name: Term, items: Sequence[ContentItem], template: str | None = None) -> ContainerContentItem:
    """A branch with its items; `template` is that of a root."""
    from highdicom.sr import ContainerContentItem, ContentSequence

    relation = "CONTAINS" if template is None else None
    branch = ContainerContentItem(code(name), template_id=template, relationship_type=relation)
    branch.ContentSequence = ContentSequence(items)
    return branch


def text(name: Term, value: str) -> TextContentItem:
    """A sentence."""
    from highdicom.sr import TextContentItem

    return TextContentItem(code(name), value, relationship_type="CONTAINS")


def points(name: Term, places: Sequence[Point], sources: Sources, relation: Relation) -> Scoord3DContentItem:
    """A point, or the line through several, in LPS mm."""
    from highdicom.sr import Scoord3DContentItem

    return Scoord3DContentItem(
        code(name),
        graphic_type="POINT" if len(places) == 1 else "POLYLINE",
        graphic_data=np.array(places, float),
        frame_of_reference_uid=sources.frame_of_reference_uid,
        relationship_type=relation,
    )


def finding_group(finding: Finding, sources: Sources, seg: WrittenSeg | None) -> ContentSequence:
    """The one group of a finding: what it is, where, how large, how likely."""
    import highdicom as hd

    long_axis = _number(terms.LONG_AXIS, finding.longest_mm, terms.MM)
    short_axis = _number(terms.SHORT_AXIS, finding.perpendicular_mm, terms.MM)
    side = None if finding.side is None else code(terms.SIDES[finding.side])
    parts: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(finding.tracking_uid, finding.id),
        "finding_category": code(terms.ABNORMAL_STRUCTURE),
        "finding_type": code(terms.NODULE),
        "finding_sites": [hd.sr.FindingSite(code(terms.LUNG), laterality=side)],
        "algorithm_id": hd.sr.AlgorithmIdentification("p2ch-luna", __version__, manufacturer=MANUFACTURER),
        "measurements": [long_axis, short_axis, *_further_numbers(finding)],
        "qualitative_evaluations": _qualities(finding),
    }
    group: ContentSequence
    if seg is None:
        group = hd.sr.MeasurementsAndQualitativeEvaluations(**parts)
    else:
        segment = hd.sr.ReferencedSegment(
            seg.sop_class_uid,
            seg.sop_instance_uid,
            finding.label,
            source_series=hd.sr.SourceSeriesForSegmentation(sources.series_uid),
        )
        group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**parts, referenced_segment=segment)
    # Both templates may be extended: viewers show a finding by its point, and its axes by their lines.
    for axis, ends in ((long_axis, finding.longest_lps_mm), (short_axis, finding.perpendicular_lps_mm)):
        axis[0].ContentSequence = hd.sr.ContentSequence([points(terms.PATH, ends, sources, "INFERRED FROM")])
    group[0].ContentSequence.extend(
        [
            points(terms.CENTER, [finding.center_lps_mm], sources, "CONTAINS"),
            text(terms.LUNG_RADS, finding.lung_rads),
        ]
    )
    return group


def _further_numbers(finding: Finding) -> list[Measurement]:
    """All but the two axes; a distance or a suspicion that is not known is left out."""
    numbers: list[tuple[Term, float | None, Term, Term | None]] = [
        (terms.DIAMETER, finding.mean_diameter_mm, terms.MM, terms.MEAN),
        (terms.SOLID_DIAMETER, finding.solid_mm, terms.MM, None),
        (terms.VOLUME, finding.volume_mm3, terms.MM3, None),
        (terms.ATTENUATION, finding.mean_hu, terms.HU, terms.MEAN),
        (terms.PLEURA, finding.pleura_mm, terms.MM, None),
        (terms.CERTAINTY, _percent(finding.nodule_probability), terms.PERCENT, None),
        (terms.SUSPICION, _percent(finding.malignancy_probability), terms.PERCENT, None),
        (terms.SUSPICION_BY_DIAMETER, _percent(finding.malignancy_by_diameter), terms.PERCENT, None),
    ]
    return [_number(name, value, unit, how) for name, value, unit, how in numbers if value is not None]


def _percent(probability: float | None) -> float | None:
    return None if probability is None else 100 * probability


def _number(name: Term, value: float, unit: Term, derivation: Term | None = None) -> Measurement:
    from highdicom.sr import Measurement

    how = None if derivation is None else code(derivation)
    return Measurement(code(name), round(value, 4), code(unit), derivation=how)


def _qualities(finding: Finding) -> list[QualitativeEvaluation]:
    from highdicom.sr import QualitativeEvaluation

    qualities = [QualitativeEvaluation(code(terms.TEXTURE), code(terms.TEXTURES[finding.texture]))]
    if finding.third is not None:
        qualities.append(QualitativeEvaluation(code(terms.THIRD), code(terms.THIRDS[finding.third])))
    return qualities
