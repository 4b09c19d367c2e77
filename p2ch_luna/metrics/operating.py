"""From which probability on a finding counts, for so many false positives a scan."""

from __future__ import annotations

import numpy as np

from p2ch_luna.metrics.froc import Froc


def operating_point(curve: Froc, fp_per_scan: float) -> tuple[float, float]:
    """The probability from which on no more false positives count, and the sensitivity there.

    It lies half way between the last mark that counts and the next one, as both are there by chance; above
    the first false positive if no mark may count. Where all marks together bring fewer false positives it is
    the lowest mark's. The scores of the curve must be probabilities.
    """
    last = int(np.searchsorted(curve.fp_per_scan, fp_per_scan, side="right")) - 1
    lowest, sensitivity = min(float(curve.threshold[last]), 1.0), float(curve.sensitivity[last])
    if last + 1 == len(curve.threshold):
        return lowest, sensitivity
    following = float(curve.threshold[last + 1])
    middle = (lowest + following) / 2
    return (middle if middle > following else float(np.nextafter(following, 2))), sensitivity
