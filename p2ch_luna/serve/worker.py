"""How the worker process begins. The networks' libraries are imported in it alone, not in the server."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2ch_luna.errors import LunaError, told
from p2ch_luna.serve.jobs import Diagnose
from p2ch_luna.serve.logs import log_to
from p2ch_luna.serve.storage import Storage

if TYPE_CHECKING:
    from p2ch_luna.inference.runtime import Runtime

NICENESS = 5  # added to that of the server, which is to answer while the worker computes


@dataclass(frozen=True)
class WorkerSettings:
    """What the worker is told once.

    folder: of the service.    device: "auto": CUDA if it is there, else the CPU.
    threads: to compute with; None: as many as there are processors.
    """

    folder: Path
    device: str = "cpu"
    runtime: Runtime = "torch"
    threads: int | None = None


def begin(settings: WorkerSettings) -> Diagnose:
    """Called once, in the worker process: load the networks; returns what does one job after the other.

    Raises LunaError where there are no networks for this device and runtime.
    """
    log_to(sys.stderr)
    os.nice(NICENESS)
    tempfile.tempdir = str(Storage(settings.folder).tmp)  # zips are unpacked on the disk of the service
    from p2ch_luna.serve.attempt import load

    try:
        return load(settings)
    except LunaError:
        raise
    except Exception as error:  # nobody else would tell
        raise LunaError(f"the networks cannot be loaded: {told(error)}") from error
