import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_file_sizes.py"
MIB = 2**20


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [
        ("a.csv", MIB, 0),
        ("a.csv", MIB + 1, 1),
        ("p2ch_luna/weights/a.safetensors", 16 * MIB, 0),
        ("p2ch_luna/weights/a.safetensors", 16 * MIB + 1, 1),
    ],
)
def test_limits(tmp_path: Path, name: str, size: int, code: int) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.truncate(size)
    ended = subprocess.run([sys.executable, SCRIPT, name], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == code
