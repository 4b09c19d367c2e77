"""The table of ratings is what the script makes of the lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2ch_luna.datasets.luna16_ratings import TABLE
from p2ch_luna.io.lidc_tables import SHIPPED

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_luna16_ratings.py"


@pytest.mark.slow
def test_the_shipped_table_is_what_the_script_writes(shared_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, shared_data / "luna16", "--output", tmp_path / "a.csv"]
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("1186 of 1186 nodules rated\n")
    assert (tmp_path / "a.csv").read_bytes() == (SHIPPED / TABLE).read_bytes()


def test_a_folder_without_lists_is_told(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "expected annotations.csv and annotations_excluded.csv in it" in ended.stderr
