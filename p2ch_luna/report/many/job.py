"""What is done with each of many scans: the diagnosis of a detector, with the settings of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.models.checkpoint import card_path
from p2ch_luna.report.diagnose import EVERYTHING, diagnose
from p2ch_luna.report.many.work import DiagnoseOne
from p2ch_luna.report.outputs import Wanted, can_write_dicom
from p2ch_luna.report.schema import SCHEMA_VERSION, Report


@dataclass(frozen=True)
class DetectorJob:
    """A `many_work.Job`; it is pickled, so `load_detector` is a function of a module or a partial of one.

    weights: the files that `load_detector` reads, with their cards beside them.
    settings: what else it decides on, such as the runtime, in words.
    fp_per_scan, wanted: as `diagnose` takes them.
    """

    load_detector: Callable[[], NoduleDetector]
    weights: tuple[Path, ...]
    settings: str = ""
    fp_per_scan: float | None = None
    wanted: Wanted = EVERYTHING

    @cached_property
    def fingerprint(self) -> str:
        """Of the version, the schema, weights and cards, and all settings. Raises LunaError."""
        files = [_sha256(path) for weights in self.weights for path in (weights, card_path(weights))]
        settings = [self.settings, self.fp_per_scan, repr(self.wanted), can_write_dicom()]
        facts = json.dumps([__version__, SCHEMA_VERSION, files, settings])
        return hashlib.sha256(facts.encode()).hexdigest()

    def load(self) -> DiagnoseOne:
        """Read the weights."""
        return partial(_diagnose, self.load_detector(), self.fp_per_scan, self.wanted)


def _diagnose(
    detector: NoduleDetector, fp_per_scan: float | None, wanted: Wanted, scan: Path, folder: Path
) -> Report:
    return diagnose(scan, folder, detector=detector, fp_per_scan=fp_per_scan, wanted=wanted)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a model and its card") from error
