"""What is installed: versions, extras, whether the libraries load, whether the networks are whole."""

from __future__ import annotations

import locale
import platform
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import p2ch_luna
from p2ch_luna.errors import LunaError
from p2ch_luna.report.doctor.remark import Remark

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "p2ch-luna"
# The package is in no index: by its name alone pip finds it only where it is installed, to add an extra.
ANEW = (
    "install it anew in a new environment, from where it came: python -m venv luna, then in a clone "
    "luna/bin/pip install -e . or, with the wheel, luna/bin/pip install WHEEL"
)
REPLACE = (
    "get it again from where the package came: a clone that git checkout -- p2ch_luna/weights has made "
    "whole (then pip install -e .), or pip install --force-reinstall --no-deps WHEEL"
)
SHOWN = ("torch", "numpy", "SimpleITK")  # with a line of their own also where nothing is wrong
LOADED = ("numpy", "SimpleITK", "torch", "p2ch_luna.report.diagnose")  # the last needs all the others
PURPOSES = {  # what an extra is for
    "dicom": "findings as DICOM SEG and SR",
    "openvino": "--runtime openvino, and luna export --format openvino",
    "onnxruntime": "--runtime onnxruntime, and luna export --format onnx",
    "export": "luna export --format onnx (onnx, onnxruntime) and --format openvino (openvino)",
    "dist": "luna diagnose --engine ray",
    "serve": "luna serve and luna dicomweb",
}
NETWORKS = ("segmentation", "nodule")
OPTIONAL_NETWORK = "malignancy"


def versions() -> Iterator[Remark]:
    """Of Python, of this package and of what it needs; one out of range may work all the same."""
    yield Remark("python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield Remark(PACKAGE, "ok", f"{p2ch_luna.__version__} ({Path(p2ch_luna.__file__).parent})")
    others = []
    for wanted in _requirements(""):
        remark = _installed(wanted)
        if remark.state != "ok" or wanted.name in SHOWN:
            yield remark
        else:
            others.append(wanted.name)
    yield Remark("others", "ok", f"{len(others)} packages, each in its range")


def extras() -> Iterator[Remark]:
    """Which of the optional parts are there."""
    there = metadata(PACKAGE).get_all("Provides-Extra") or []
    for extra in (name for name in PURPOSES if name in there):
        remarks = [_installed(one) for one in _requirements(extra)]
        wrong = [f"{one.subject} {one.found}" for one in remarks if one.state != "ok"]
        if wrong:
            found = f"{'; '.join(wrong)}; needed for {PURPOSES[extra]}"
            yield Remark(extra, "note", found, f"pip install '{PACKAGE}[{extra}]'")
        else:
            found = ", ".join(f"{one.subject} {one.found}" for one in remarks)
            yield Remark(extra, "ok", f"{found}; for {PURPOSES[extra]}")


def _requirements(extra: str) -> list[Requirement]:
    """What the package itself needs here, or one of its extras, with the extras that this one names.

    Raises PackageNotFoundError where the package is not installed.
    """
    from packaging.requirements import Requirement  # matplotlib needs it too

    found: dict[str, Requirement] = {}
    for one in map(Requirement, requires(PACKAGE) or []):
        if not _is_of(one, extra):
            continue
        if one.name == PACKAGE:
            found |= {other.name: other for name in sorted(one.extras) for other in _requirements(name)}
        else:
            found[one.name] = one
    return list(found.values())


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Whether it is of the extra; of the package itself for an empty one."""
    marker = requirement.marker
    is_always = marker is None or marker.evaluate({"extra": ""})
    if not extra:
        return is_always
    return marker is not None and not is_always and marker.evaluate({"extra": extra})


def _installed(wanted: Requirement) -> Remark:
    """Whether a package is there in a version of its range."""
    advice = f"pip install '{wanted.name}{wanted.specifier}'"
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Remark(wanted.name, "note", "is not installed", advice)
    if not wanted.specifier.contains(found, prereleases=True):
        return Remark(wanted.name, "note", f"{found}; wanted {wanted.specifier}", advice)
    return Remark(wanted.name, "ok", found)


def libraries() -> Iterator[Remark]:
    """Whether what a diagnosis needs can be loaded."""
    for name in LOADED:
        try:
            import_module(name)
        except Exception as error:  # a library for another machine raises anything
            wrong = f"cannot be loaded: {type(error).__name__}: {error}"
            yield Remark(name, "problem", wrong, ANEW)
            return
    yield Remark("loading", "ok", f"{', '.join(LOADED[:-1])} and luna diagnose itself")


def networks() -> Iterator[Remark]:
    """Whether the bundled weights are those of their cards."""
    from p2ch_luna.models.checkpoint import bundled, load_card

    for name in (*NETWORKS, OPTIONAL_NETWORK):
        weights = bundled(name)
        if name == OPTIONAL_NETWORK and not weights.is_file():
            found = "is not bundled: malignancy is judged by the classifier, or not"
            yield Remark(name, "note", found, "nothing; luna diagnose --malignancy FILE takes your own")
            continue
        try:
            card = load_card(weights)
            card.check(weights, weights.read_bytes())
        except (LunaError, OSError) as error:
            yield Remark(name, "problem", str(error), REPLACE)
        else:
            yield Remark(name, "ok", f"{card.builder}, whole: SHA-256 {card.weights_sha256[:12]}…")


def text() -> Iterator[Remark]:
    """In which encoding names of files and lines of a terminal are written."""
    files, lines = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    odd = sorted({name for name in (files, lines) if name.lower().replace("-", "") != "utf8"})
    if odd:
        found = f"{', '.join(odd)}: some names of files cannot be read or shown"
        yield Remark("encoding", "note", found, "set PYTHONUTF8=1, or a locale such as LANG=C.UTF-8")
    else:
        yield Remark("encoding", "ok", "UTF-8")
