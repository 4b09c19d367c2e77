"""Files in and out: volumes, DICOM series, LUNA16 tables."""

from p2ch_luna.io.dicom import read_series, write_series
from p2ch_luna.io.tables import (
    ScoredPoint,
    read_candidates,
    read_detections,
    read_nodules,
    read_series_uids,
    write_candidates,
    write_detections,
    write_nodules,
)
from p2ch_luna.io.volumes import read_ct, read_mask, write_ct, write_mask

__all__ = [
    "ScoredPoint",
    "read_candidates",
    "read_ct",
    "read_detections",
    "read_mask",
    "read_nodules",
    "read_series",
    "read_series_uids",
    "write_candidates",
    "write_ct",
    "write_detections",
    "write_mask",
    "write_nodules",
    "write_series",
]
