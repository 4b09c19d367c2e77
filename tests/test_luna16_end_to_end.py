"""From a folder like LUNA16's download, zipped in part and faulty in part, to a trained network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = (
    "optim.warmup_steps=0",
    "loop.epochs=1",
    "loop.steps_per_epoch=2",
    "loop.batch_size=2",
    "validation.samples=8",
)
FEW = ("data.shape_irc=[32,32,32]", "model.widths=[4,8]", "loop.workers=0")

pytestmark = pytest.mark.slow


def luna(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p2ch_luna", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end-to-end")
    script = ROOT / "scripts" / "make_luna16_standin.py"
    options = ["--small", "--broken", "--scans", "12", "--data", str(shared_data)]
    subprocess.run([sys.executable, script, folder / "LUNA16", *options], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> subprocess.CompletedProcess[str]:
    return luna("prepare", folder / "LUNA16", "--cache", folder)


def test_prepare_lists_what_cannot_be_used(prepared: subprocess.CompletedProcess[str]) -> None:
    assert prepared.returncode == 1
    assert "12 prepared: 12 now" in prepared.stdout
    assert "2 problems" in prepared.stdout
    assert "the file is cut short" in prepared.stdout
    assert "is not there; expected it beside the header" in prepared.stdout


@pytest.mark.usefixtures("prepared")
def test_train_uses_the_rest_in_the_folds_of_its_subsets(folder: Path) -> None:
    sets = [part for one in (f"data.luna16={folder / 'LUNA16'}", *SMALL, *FEW) for part in ("--set", one)]
    config = ROOT / "configs" / "luna16.toml"
    done = luna("train", config, *sets, "--cache", folder, "--runs", folder / "runs", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    split = json.loads(Path(done.stdout.strip()).with_suffix(".json").read_text(encoding="utf-8"))["split"]
    assert len(split["train scans"]) + len(split["validation scans"]) == 12
    subset0 = json.loads(luna("info", folder / "LUNA16", "--json").stdout)["subsets"]["0"]["scans"]
    assert len(split["validation scans"]) == subset0 > 0
    assert not set(split["train"]) & set(split["validation"])
