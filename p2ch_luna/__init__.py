"""Find lung nodules in CT: from any scan to measured findings.

    from p2ch_luna import diagnose

    report = diagnose("CT.mha")

Research only, not a medical device. Importing the package loads nothing heavy: a name of `__all__` loads what
it needs when it is first asked for. What else a program may rely on is in docs/api.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2ch_luna.errors import LunaError as LunaError
    from p2ch_luna.inference import NoduleDetector as NoduleDetector
    from p2ch_luna.report.diagnose import diagnose as diagnose
    from p2ch_luna.report.schema import Report as Report

__version__ = "0.1.0"
__all__ = ["LunaError", "NoduleDetector", "Report", "__version__", "diagnose"]
_HOMES = {
    "LunaError": "p2ch_luna.errors",
    "NoduleDetector": "p2ch_luna.inference",
    "Report": "p2ch_luna.report.schema",
    "diagnose": "p2ch_luna.report.diagnose",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the names that have not been asked for yet."""
    return sorted({*globals(), *__all__})
