"""The page of examples/browser with all that it needs, in a folder of a test."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "examples" / "browser"
STEPS = ROOT / "tests" / "examples" / "steps.mjs"
ORT = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def script(name: str) -> ModuleType:
    """One of the folder's scripts."""
    spec = importlib.util.spec_from_file_location(f"browser_{name}", BROWSER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_site(folder: Path) -> Path:
    """The page's files and what is built of the package."""
    shutil.copytree(BROWSER / "js", folder / "js")
    for name in ("index.html", "style.css"):
        shutil.copy(BROWSER / name, folder)
    script("build").build(folder / "built", folder / "vendor")
    return folder


def add_ort(site: Path) -> None:
    """onnxruntime-web, which is fetched once and kept."""
    command = [ROOT / "scripts" / "vendor_ort.sh"]
    fetched = subprocess.run(command, capture_output=True, text=True)
    assert fetched.returncode == 0, f"onnxruntime-web cannot be fetched from npm: {fetched.stderr}"
    for name in ORT:
        (site / "vendor" / name).symlink_to(BROWSER / "vendor" / name)


def run_node(*words: str | Path) -> str:
    """What node says."""
    done = subprocess.run(["node", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_steps(site: Path, scan: Path, out: Path, *more: Path) -> dict[str, Any]:
    """Facts of steps.mjs on a scan: a file, or a folder of DICOM. more: a map of probabilities.

    out: a folder, made if it is not there, that gets the arrays.
    """
    out.mkdir(exist_ok=True)
    run_node(STEPS, site / "js", site / "built" / "pipeline.json", scan, out, *more)
    facts: dict[str, Any] = json.loads((out / "facts.json").read_text(encoding="utf-8"))
    return facts


def refusal(site: Path, scan: Path) -> str:
    """What steps.mjs says of a scan that the page does not take."""
    words = [STEPS, site / "js", site / "built" / "pipeline.json", scan, scan.parent]
    done = subprocess.run(["node", *words], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return done.stderr
