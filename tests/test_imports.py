"""The import direction: every module imports only what lies below it, and light modules stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import p2ch_luna

ROOT = Path(p2ch_luna.__file__).parent
LEVELS = (  # the top first; parts of one level do not import each other, but for BESIDE
    ("__main__",),
    ("cli",),
    ("serve",),
    ("report",),
    ("export",),  # it writes what the runtimes of inference read
    ("inference", "training"),
    ("models",),
    ("datasets",),
    ("io", "metrics", "lungs", "config"),
    ("geometry", "findings", "files", "processes", "frozen"),
    ("errors", ""),  # "" is the package itself: its version
)
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
BESIDE = {
    ("io", "lungs"),  # io/scan_cache.py keeps prepared scans
    ("", "report"),  # `from p2ch_luna import diagnose`, imported when it is asked for, as
    ("", "inference"),  # `NoduleDetector` and
    ("", "errors"),  # `LunaError`
}
MAY_IMPORT_CONFIG = ("config", "cli", "training/fit.py", "training/checks.py")
LIGHT = (
    "p2ch_luna",
    "p2ch_luna.errors",
    "p2ch_luna.files",
    "p2ch_luna.findings",
    "p2ch_luna.config",
    "p2ch_luna.cli",
)

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    """`io` of `p2ch_luna.io.tables`."""
    return module.removeprefix("p2ch_luna").removeprefix(".").split(".")[0]


def imports(source: str, package: str) -> Iterator[str]:
    """Full names of the modules of this package that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "p2ch_luna")
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*base, *origin.split(".")]).rstrip(".")
            if origin.split(".")[0] == "p2ch_luna":
                yield from (f"{origin}.{alias.name}" for alias in node.names)


def forbidden(path: Path, source: str) -> list[str]:
    """What the module at `path` (within the package) imports against the direction."""
    part = path.parts[0].removesuffix(".py").replace("__init__", "")
    package = ".".join(["p2ch_luna", *path.parts[:-1]])
    return [name for name in imports(source, package) if not allowed(path, part, part_of(name))]


def allowed(path: Path, part: str, other: str) -> bool:
    if other not in LEVEL:
        other = ""  # a name of the package itself
    if other == "config" and not path.as_posix().startswith(MAY_IMPORT_CONFIG):
        return False
    return part == other or (part, other) in BESIDE or LEVEL[part] < LEVEL[other]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_only_what_lies_below(path: Path) -> None:
    assert forbidden(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("training/loop.py", "from p2ch_luna.inference.tiles import tiles"),
        ("inference/tiles.py", "from p2ch_luna.training import loop"),
        ("io/volumes.py", "import p2ch_luna.datasets.phantom"),
        ("lungs.py", "from p2ch_luna.io import read_ct"),
        ("models/unet.py", "from p2ch_luna import cli"),
        ("models/unet.py", "from ..training import loop"),
        ("inference/detector.py", "def f():\n    from p2ch_luna.config import Config"),
        ("training/loop.py", "from p2ch_luna.config import Config"),
    ],
)
def test_an_import_upwards_is_seen(path: str, source: str) -> None:
    assert len(forbidden(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/train.py", "from p2ch_luna.config import Config"),
        ("training/fit.py", "from p2ch_luna.config import Config"),
        ("training/fit.py", "from p2ch_luna.training import loop\nfrom .losses import dice_loss"),
        ("io/scan_cache.py", "from p2ch_luna.lungs import PreparedCt"),
        ("cli/__init__.py", "from p2ch_luna import __version__\nimport torch"),
    ],
)
def test_an_import_downwards_passes(path: str, source: str) -> None:
    assert forbidden(Path(path), source) == []


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_command_module_imports_torch() -> None:
    commands = [f"p2ch_luna.cli.{path.stem}" for path in (ROOT / "cli").glob("[!_]*.py")]
    code = f"import sys, {', '.join(commands)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
