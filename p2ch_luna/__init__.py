"""Find lung nodules in CT: from any scan to measured findings.

    from p2ch_luna import diagnose

    report = diagnose("CT.mha")

Research only, not a medical device. Importing the package loads nothing heavy; `diagnose` loads what it
needs when it is first asked for, and more is in the modules, say `p2ch_luna.inference.NoduleDetector`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2ch_luna.report.diagnose import diagnose as diagnose

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose"]


def __getattr__(name: str) -> Any:
    """`diagnose`, imported when it is asked for (PEP 562)."""
    if name == "diagnose":
        return import_module("p2ch_luna.report.diagnose").diagnose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
