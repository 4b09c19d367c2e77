"""Libraries that would tell their makers of their use, imported so that they do not."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import Any

_importing = threading.RLock()  # else one thread would take another's hiding for an import of its own


def import_unreported(name: str) -> Any:
    """The module `name`, of OpenVINO or ONNX Runtime; it does not report to Intel or Microsoft.

    Importing openvino sends an event to Google Analytics and writes ~/intel, unless openvino_telemetry cannot
    be imported; onnxruntime reports from Linux too, unless this variable is set before. A program
    that imports them by itself must do so later than this. Raises ImportError.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with _importing:
        is_hidden = "openvino_telemetry" not in sys.modules
        if is_hidden:
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import ends with an error
        try:
            return import_module(name)
        finally:
            if is_hidden:
                sys.modules.pop("openvino_telemetry", None)
