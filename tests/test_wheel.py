"""The wheel, installed where there is no repository: it has all it needs, and works without any extra."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.installed import ROOT, outside

pytestmark = pytest.mark.slow

PROGRAM = '''"""What somebody else has written."""

from pathlib import Path

from p2ch_luna import LunaError, NoduleDetector, Report, diagnose
from p2ch_luna.findings import Detection
from p2ch_luna.geometry import CtVolume
from p2ch_luna.io import read_ct


def most_probable(ct: CtVolume, detector: NoduleDetector) -> Detection | None:
    return next(iter(detector(ct).detections), None)


def probabilities(scan: Path) -> list[float]:
    try:
        report: Report = diagnose(scan, fp_per_scan=1.0, detector=NoduleDetector.load(device="cpu"))
    except LunaError:
        return []
    return [finding.nodule_probability for finding in report.findings]


print(probabilities(Path("CT.mha")), most_probable(read_ct(Path("CT.mha")), NoduleDetector.load()))
'''
WRONG = "from p2ch_luna import diagnose\n\nfindings: int = diagnose(3)\n"


def packed(wheel: Path) -> set[str]:
    """Names of the files in it."""
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Of the installed package, in a folder outside the repository."""
    return subprocess.run(words, cwd=folder, env=outside(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder where `luna demo` was run, and what it said."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = run(programs / "luna", "demo", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def examined(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `luna doctor --json` says there."""
    done = run(programs / "luna", "doctor", "--json", folder=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("folder", ["weights", "lidc", "serve/static", "report/html/static"])
def test_the_wheel_has_the_networks_the_page_and_lidc(wheel: Path, folder: str) -> None:
    there = {f"p2ch_luna/{folder}/{file.name}" for file in (ROOT / "p2ch_luna" / folder).iterdir()}
    assert there
    assert there <= packed(wheel)


def test_the_wheel_says_that_it_is_typed(wheel: Path) -> None:
    assert "p2ch_luna/py.typed" in packed(wheel)


def test_the_wheel_has_every_module(wheel: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "p2ch_luna").rglob("*.py")}
    assert modules <= packed(wheel)


def test_the_wheel_has_nothing_but_the_package(wheel: Path) -> None:
    assert all(re.match(r"p2ch_luna(-[^/]+\.dist-info)?/", name) for name in packed(wheel))


def test_the_demo_finds_its_nodules(demo: tuple[Path, str]) -> None:
    found = re.search(r"found (\d) of 6 nodules", demo[1])
    assert found, demo[1]
    assert int(found[1]) >= 5


def test_the_demo_writes_its_report(demo: tuple[Path, str]) -> None:
    assert json.loads((demo[0] / "demo-out" / "report.json").read_text("utf-8"))["findings"]


def test_nothing_of_the_repository_is_used(programs: Path, tmp_path: Path) -> None:
    """Neither its modules nor its data: all loaded from the environment, no path of the repository known."""
    code = (
        "import sys, p2ch_luna, p2ch_luna.report.diagnose, p2ch_luna.io.lidc_tables\n"
        "names = [n for n in sys.modules if n.partition('.')[0] == 'p2ch_luna']\n"
        "print(*(getattr(sys.modules[n], '__file__', None) or '' for n in names), *sys.path, sep='\\n')"
    )
    done = run(programs / "python", "-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stdout.splitlines() if Path(line).is_relative_to(ROOT)]


def test_no_file_of_the_environment_names_the_repository(programs: Path) -> None:
    """As an editable installation would."""
    (packages,) = programs.parent.glob("lib/python*/site-packages")
    files = [*packages.glob("*.pth"), *packages.glob("p2ch_luna-*/*")]
    texts = [path.read_text("utf-8") for path in files if path.is_file()]
    assert texts
    assert not [text for text in texts if str(ROOT) in text]


def test_the_doctor_has_no_problem_there(examined: dict[str, Any]) -> None:
    assert examined["is_fit"]


def test_the_doctor_finds_every_needed_package_in_its_range(examined: dict[str, Any]) -> None:
    assert not [one for one in examined["remarks"] if one["check"] == "software" and one["state"] != "ok"]


def test_the_doctor_says_how_to_get_an_extra(examined: dict[str, Any]) -> None:
    advice = {one["advice"] for one in examined["remarks"] if one["check"] == "extras"}
    assert "pip install 'p2ch-luna[openvino]'" in advice


def test_another_folder_does_not_stand_in_for_the_package(programs: Path, tmp_path: Path) -> None:
    """Of a name that a user may well have given one."""
    (tmp_path / "p2ch_luna").mkdir()
    (tmp_path / "torch.py").write_text("raise ImportError('not this one')\n", "utf-8")
    done = run(programs / "luna", "schema", folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("program", "errors"), [(PROGRAM, 0), (WRONG, 2)], ids=["right", "wrong"])
def test_a_program_is_checked_against_the_installed_types(
    programs: Path, tmp_path: Path, program: str, errors: int
) -> None:
    (tmp_path / "program.py").write_text(program, "utf-8")
    mypy: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        programs / "python",
    ]
    done = run(*mypy, "program.py", folder=tmp_path)
    assert done.stdout.count(" error: ") == errors, done.stdout
