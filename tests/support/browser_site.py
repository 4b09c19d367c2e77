"""The page of examples/browser with all that it needs, in a folder of a test."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "examples" / "browser"
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
