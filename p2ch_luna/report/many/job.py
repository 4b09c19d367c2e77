"""What is done with each of many scans: the diagnosis of a detector, with the settings of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import p2ch_luna
from p2ch_luna.errors import LunaError
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.models.checkpoint import card_path
from p2ch_luna.report.diagnose import EVERYTHING, diagnose
from p2ch_luna.report.many.work import DiagnoseOne
from p2ch_luna.report.outputs import Wanted, can_write_dicom
from p2ch_luna.report.schema import SCHEMA_VERSION, Report
from p2ch_luna.report.threshold import FP_PER_SCAN

PACKAGE = Path(p2ch_luna.__file__).parent
DECIDING = (  # what of this package has a part in the results of a scan
    *("findings.py", "frozen.py", "geometry.py", "lungs.py", "io/*.py", "models/*.py", "inference/*.py"),
    *("report/*.py", "report/dicom/*.py", "report/html/*.py", "report/html/static/*"),
)


@dataclass(frozen=True)
class DetectorJob:
    """A `work.Job`; it is pickled, so `load_detector` is a function of a module or a partial of one.

    weights: the files that `load_detector` reads, with their cards beside them. Workers may run in another
    folder, so whatever paths it is given are absolute.
    settings: what else it decides on, such as the runtime, in words.
    fp_per_scan, wanted: as `diagnose` takes them.    device: what it computes on: cpu, cuda or mps.
    """

    load_detector: Callable[[], NoduleDetector]
    weights: tuple[Path, ...]
    settings: str = ""
    fp_per_scan: float | None = None
    wanted: Wanted = EVERYTHING
    device: str = "cpu"

    @cached_property
    def fingerprint(self) -> str:
        """Of the code that decides, the schema, weights and cards, and all settings. Raises LunaError."""
        files = [_sha256(path) for weights in self.weights for path in (weights, card_path(weights))]
        rate = FP_PER_SCAN if self.fp_per_scan is None else float(self.fp_per_scan)
        settings = [self.settings, rate, repr(self.wanted), can_write_dicom(), self.device]
        facts = json.dumps([p2ch_luna.__version__, code_digest(), SCHEMA_VERSION, files, settings])
        return hashlib.sha256(facts.encode()).hexdigest()

    def load(self) -> DiagnoseOne:
        """Read the weights."""
        return partial(_diagnose, self.load_detector(), self.fp_per_scan, self.wanted)


@cache
def code_digest() -> str:
    """Hex digits that change with any file of `DECIDING`; the version changes from release to release."""
    files = sorted({path for pattern in DECIDING for path in PACKAGE.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _diagnose(
    detector: NoduleDetector, fp_per_scan: float | None, wanted: Wanted, scan: Path, folder: Path
) -> Report:
    return diagnose(scan, folder, detector=detector, fp_per_scan=fp_per_scan, wanted=wanted)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a model and its card") from error
