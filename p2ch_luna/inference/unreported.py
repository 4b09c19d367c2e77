"""Libraries that would tell their makers of their use, imported so that they do not."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def import_unreported(name: str) -> Any:
    """The module `name`, of OpenVINO or ONNX Runtime; the process never reports to Intel or Microsoft.

    Importing openvino sends an event to Google Analytics and writes ~/intel, unless openvino_telemetry cannot
    be imported; onnxruntime reports from Linux too, unless this variable is set before. Whatever else a
    program imports them by must come later than this. Raises ImportError.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    is_hidden = "openvino_telemetry" not in sys.modules
    if is_hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # ends its import with an error
    try:
        return import_module(name)
    finally:
        if is_hidden:
            del sys.modules["openvino_telemetry"]
