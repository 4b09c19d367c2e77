"""False positives per scan in words."""

from __future__ import annotations

_FRACTIONS = {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}


def false_positives_text(fp_per_scan: float) -> str:
    """1/8 false positives a scan, 1 false positive a scan, …"""
    return f"{rate_text(fp_per_scan)} false positive{'' if fp_per_scan == 1 else 's'} a scan"


def rate_text(fp_per_scan: float) -> str:
    """1/8, 1/4 or 1/2, as LUNA16 writes them; else a number."""
    return _FRACTIONS.get(fp_per_scan, f"{fp_per_scan:g}")
