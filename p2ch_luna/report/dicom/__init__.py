"""Findings as DICOM objects: SEG and SR."""
