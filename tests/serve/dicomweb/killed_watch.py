"""A watch that is killed as soon as a diagnosis is written: `python killed_watch.py URL FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from p2ch_luna.inference.detector import Silent
from p2ch_luna.report.diagnose import diagnose
from p2ch_luna.report.outputs import Wanted
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.watch import Watch, watching
from support.diagnosed import FixedDetector


def die(scan: Path, results: Path) -> Report:
    diagnose(scan, results, detector=FixedDetector(), wanted=Wanted(page=False))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


if __name__ == "__main__":
    with watching(folder := Path(sys.argv[2])):
        Watch(Server(sys.argv[1], {}), folder, die, print, Silent(), existing=True, interval=0.1).run()
