"""The report as a DICOM structured report: template TID 1500, Comprehensive 3D SR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p2ch_luna.io.dicom import derived_uid
from p2ch_luna.report.dicom import codes as terms
from p2ch_luna.report.dicom.codes import OWN_SCHEME, code
from p2ch_luna.report.dicom.items import container, finding_group, text
from p2ch_luna.report.dicom.seg import WrittenSeg
from p2ch_luna.report.dicom.sources import DEVICE, MANUFACTURER, Sources, patient_kept_quiet, save
from p2ch_luna.report.schema import Report

if TYPE_CHECKING:
    from highdicom.sr import ContainerContentItem, ContentSequence
    from pydicom import Dataset

SERIES_NUMBER = 9002  # beyond those that scanners give
SERIES_DESCRIPTION = "Lung nodules, measured (research use only)"


def write_sr(path: Path, report: Report, sources: Sources, seg: WrittenSeg | None) -> None:
    """Write the findings and their measurements, or that there are none.

    seg: what `write_seg` returned; each finding refers to its segment in it.
    Apart from dates and times the same series and report give the same bytes.
    Raises LunaError where it cannot be written.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import Comprehensive3DSR

    with patient_kept_quiet():
        document = Comprehensive3DSR(
            evidence=[*sources.images, *([] if seg is None else [_evidence(seg, sources)])],
            content=_root(report, sources, seg),
            series_instance_uid=sources.new_uid(report, "SR series"),
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            sop_instance_uid=sources.new_uid(report, "SR"),
            instance_number=1,
            is_complete=True,
            coding_schemes=[CodingSchemeIdentificationItem(OWN_SCHEME, name="p2ch-luna's own codes")],
            **DEVICE,
        )
    save(path, document, sources)


def _evidence(seg: WrittenSeg, sources: Sources) -> Dataset:
    from pydicom import Dataset

    evidence = Dataset()
    evidence.SOPClassUID, evidence.SOPInstanceUID = seg.sop_class_uid, seg.sop_instance_uid
    evidence.SeriesInstanceUID = seg.series_uid
    evidence.StudyInstanceUID = sources.images[0].StudyInstanceUID
    return evidence


def _root(report: Report, sources: Sources, seg: WrittenSeg | None) -> ContainerContentItem:
    """The whole tree. highdicom's own `MeasurementReport` knows no report without a finding."""
    from highdicom.sr import CodeContentItem, LanguageOfContentItemAndDescendants

    procedure = CodeContentItem(
        code(terms.PROCEDURE), code(terms.CHEST_CT), relationship_type="HAS CONCEPT MOD"
    )
    groups = [item for finding in report.findings for item in finding_group(finding, sources, seg)]
    items = [
        *LanguageOfContentItemAndDescendants(code(terms.ENGLISH)),
        *_observer(report),
        procedure,
        _image_library(sources),
        container(terms.MEASUREMENTS, groups) if groups else _no_findings(report),
        text(terms.COMMENT, f"{report.statement} Malignancy is {report.malignancy_is}."),
    ]
    return container(terms.REPORT, items, template="1500")


def _no_findings(report: Report) -> ContainerContentItem:
    least = report.settings.finding_threshold
    sentence = f"No finding: no place with a nodule probability of at least {least:.4g} was found."
    return container(terms.QUALITATIVE_EVALUATIONS, [text(terms.FINDING, sentence)])


def _observer(report: Report) -> ContentSequence:
    """The program, with the networks that took part."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext

    networks = "".join(f", {model.stage} {model.weights_sha256[:12]}" for model in report.models)
    program = report.software + networks
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid(program, "device"),
        name="p2ch-luna",
        manufacturer_name=MANUFACTURER,
        model_name=program,
    )
    return ObservationContext(observer_device_context=ObserverContext(code(terms.DEVICE), device))


def _image_library(sources: Sources) -> ContainerContentItem:
    """The source series (TID 1600): what all slices share, then each slice."""
    from highdicom.sr import CodeContentItem, ImageContentItem, UIDRefContentItem

    shared = [
        CodeContentItem(code(terms.MODALITY), code(terms.CT), relationship_type="HAS ACQ CONTEXT"),
        UIDRefContentItem(
            code(terms.FRAME_OF_REFERENCE),
            sources.frame_of_reference_uid,
            relationship_type="HAS ACQ CONTEXT",
        ),
    ]
    slices = [
        ImageContentItem(
            code(terms.SOURCE), image.SOPClassUID, image.SOPInstanceUID, relationship_type="CONTAINS"
        )
        for image in sources.images
    ]
    return container(terms.LIBRARY, [container(terms.LIBRARY_GROUP, [*shared, *slices])])
