"""From a CT to findings: segment, propose, classify."""

from p2ch_luna.inference.detector import Diagnosis, NoduleDetector

__all__ = ["Diagnosis", "NoduleDetector"]
