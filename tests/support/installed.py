"""The package as a user has it: built from what the image copies, installed without the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSEEN = ("PYTHONPATH", "VIRTUAL_ENV", "LUNA_SHARED_DATA")  # of the environment, by users
BUILD = "python:${PYTHON} AS build"  # the stage of the Dockerfile that builds the wheel


def stages() -> dict[str, list[tuple[str, str]]]:
    """(INSTRUCTION, the rest) by what FROM says; continued lines are joined, comments left out."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for line in filter(None, joined):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            found[rest] = []
        else:
            found[list(found)[-1]].append((word, rest))
    return found


def copied() -> list[str]:
    """What the build stage takes from the repository."""
    return [name for word, rest in stages()[BUILD] if word == "COPY" for name in rest.split()[:-1]]


def copy_of_what_is_copied(folder: Path) -> Path:
    """What the engine would have in /build before the first RUN."""
    for name in copied():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, place, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, place)
    return folder


def build_wheel(folder: Path) -> Path:
    """The wheel, by the command of the image; what it was built from is gone afterwards."""
    build = copy_of_what_is_copied(folder / "build")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, "."], cwd=build, check=True)
    shutil.rmtree(build)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with the wheel and what it needs, in the exact versions; its folder of programs."""
    programs = environment / "bin"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip: list[str | Path] = [programs / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, wheel], check=True, env=outside())
    return programs


def outside() -> dict[str, str]:
    """The environment variables of a user who has no repository."""
    return {name: value for name, value in os.environ.items() if name not in UNSEEN}
