"""False positives per scan and probabilities in words."""

from __future__ import annotations

_FRACTIONS = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}


def false_positives_text(fp_per_scan: float) -> str:
    """1/8 false positives a scan, 1 false positive a scan, …"""
    return f"{rate_text(fp_per_scan)} false positive{'' if fp_per_scan == 1 else 's'} a scan"


def rate_text(fp_per_scan: float) -> str:
    """1/8, 1/4 or 1/2, as LUNA16 writes them; else a number."""
    return _FRACTIONS.get(fp_per_scan, f"{fp_per_scan:g}")


def probability_text(probability: float) -> str:
    """0.98, and of what is small the first digit that is not 0: 0.05, 0.003."""
    return f"{probability:.2f}" if probability >= 0.095 else f"{probability:.1g}"
