"""Nothing is told to the makers of the libraries that compute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.inference.runtime import OTHERS

CODE = """
import sys, time
import torch
from p2ch_luna.inference.runtime import on_runtime
from p2ch_luna.models.unet import SegmentationUNet

network = on_runtime(SegmentationUNet((8, 16)), torch.device("cpu"), sys.argv[1])
network(torch.zeros(1, 1, 16, 16, 16))
time.sleep(1)
assert "openvino_telemetry" not in sys.modules
"""


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_runtime_leaves_no_mark_of_a_report_at_home(runtime: str, tmp_path: Path) -> None:
    """Both keep an identifier of the user there before they send anything."""
    elsewhere = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "CI": ""}  # in CI OpenVINO is silent by itself
    own = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | elsewhere
    done = subprocess.run([sys.executable, "-c", CODE, runtime], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []
