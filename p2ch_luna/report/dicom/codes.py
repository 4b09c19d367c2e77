"""Coded terms of DICOM SEG and SR: (value, scheme, meaning).

SCT is SNOMED CT, DCM is DICOM PS3.16, LN is LOINC. `99P2CH` is our own scheme, for what no standard has a
code for. The textures are coded as in the DICOM version of LIDC-IDRI (Fedorov et al., Med. Phys. 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2ch_luna.inference.anatomy import Side, Third
from p2ch_luna.inference.texture import Texture

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

Term = tuple[str, str, str]
OWN_SCHEME = "99P2CH"

ABNORMAL_STRUCTURE = ("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE = ("27925004", "SCT", "Nodule")
LUNG = ("39607008", "SCT", "Lung")
SIDES: dict[Side, Term] = {
    "right": ("24028007", "SCT", "Right"),
    "left": ("7771000", "SCT", "Left"),
}
ARTIFICIAL_INTELLIGENCE = ("123110", "DCM", "Artificial Intelligence")

REPORT = ("126000", "DCM", "Imaging Measurement Report")
PROCEDURE = ("121058", "DCM", "Procedure reported")
MEASUREMENTS = ("126010", "DCM", "Imaging Measurements")
LIBRARY, LIBRARY_GROUP = ("111028", "DCM", "Image Library"), ("126200", "DCM", "Image Library Group")
MODALITY = ("121139", "DCM", "Modality")
FRAME_OF_REFERENCE = ("112227", "DCM", "Frame of Reference UID")
CHEST_CT = ("24627-2", "LN", "CT Chest")
CT = ("CT", "DCM", "Computed Tomography")
SOURCE = ("260753009", "SCT", "Source")
DEVICE = ("121007", "DCM", "Device")
ENGLISH = ("en-US", "RFC5646", "English (United States)")
FINDING = ("121071", "DCM", "Finding")
COMMENT = ("121106", "DCM", "Comment")
CENTER = ("111010", "DCM", "Center")
PATH = ("121055", "DCM", "Path")
QUALITATIVE_EVALUATIONS = ("C0034375", "UMLS", "Qualitative Evaluations")

LONG_AXIS = ("103339001", "SCT", "Long axis")
SHORT_AXIS = ("103340004", "SCT", "Short axis")
DIAMETER = ("81827009", "SCT", "Diameter")
VOLUME = ("118565006", "SCT", "Volume")
ATTENUATION = ("112031", "DCM", "Attenuation Coefficient")
CERTAINTY = ("111012", "DCM", "Certainty of Finding")
MEAN = ("373098007", "SCT", "Mean")
SOLID_DIAMETER = ("solid", OWN_SCHEME, "Mean diameter of the solid part")
PLEURA = ("pleura", OWN_SCHEME, "Distance to the pleura")
SUSPICION = ("malignancy", OWN_SCHEME, "Malignancy as radiologists suspect it, not pathology")
SUSPICION_BY_DIAMETER = ("malignancy-diam", OWN_SCHEME, "The same suspicion by the diameter alone")
THIRD = ("third", OWN_SCHEME, "Third of the lung's height")
THIRDS: dict[Third, Term] = {
    "upper": ("third-upper", OWN_SCHEME, "Upper third"),
    "middle": ("third-middle", OWN_SCHEME, "Middle third"),
    "lower": ("third-lower", OWN_SCHEME, "Lower third"),
}
LUNG_RADS = ("lung-rads", OWN_SCHEME, "Lung-RADS v2022 size category, a research hint")
TEXTURE = ("C41144", "NCIt", "Texture")
TEXTURES: dict[Texture, Term] = {
    "solid": ("RID50151", "RADLEX", "solid pulmonary nodule"),
    "part-solid": ("RID50152", "RADLEX", "part-solid pulmonary nodule"),
    "ground-glass": ("RID50153", "RADLEX", "non-solid pulmonary nodule"),
}

MM = ("mm", "UCUM", "millimeter")
MM3 = ("mm3", "UCUM", "cubic millimeter")
HU = ("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = ("%", "UCUM", "Percent")


def code(term: Term) -> CodedConcept:
    """The term as highdicom takes it."""
    from highdicom.sr import CodedConcept

    value, scheme, meaning = term
    return CodedConcept(value, scheme, meaning)
