"""What is said of versions, extras, libraries and networks."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

from p2ch_luna.models import checkpoint
from p2ch_luna.report.doctor import Remark, software

ROOT = Path(__file__).parents[3]


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the package need these, and have all extras, whenever it was installed here."""
    there = Message()
    for extra in software.PURPOSES:
        there["Provides-Extra"] = extra
    monkeypatch.setattr(software, "metadata", lambda _: there)

    def set_needs(*requirements: str) -> None:
        monkeypatch.setattr(software, "requires", lambda _: list(requirements))

    return set_needs


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled weights, in whose place it is."""
    copy = tmp_path / "weights"
    shutil.copytree(checkpoint.WEIGHTS, copy)
    monkeypatch.setattr(checkpoint, "WEIGHTS", copy)
    return copy


def of(subject: str, remarks: object) -> Remark:
    (found,) = (remark for remark in remarks if remark.subject == subject)  # type: ignore[attr-defined]
    assert isinstance(found, Remark)
    return found


def test_a_version_out_of_range_is_told_with_the_range(needs: Callable[..., None]) -> None:
    needs("numpy>=99")
    remark = of("numpy", software.versions())
    assert remark.state == "note"
    assert remark.found.endswith("wanted >=99")
    assert remark.advice == "pip install 'numpy>=99'"


def test_a_package_that_is_not_there_is_told(needs: Callable[..., None]) -> None:
    needs("no-such-package-of-ours>=1")
    assert of("no-such-package-of-ours", software.versions()).found == "is not installed"


def test_a_package_of_another_system_is_not_wanted(needs: Callable[..., None]) -> None:
    needs("no-such-package-of-ours>=1; sys_platform == 'cp/m'")
    assert {remark.state for remark in software.versions()} == {"ok"}


def test_an_extra_that_is_not_there_says_what_it_is_for(needs: Callable[..., None]) -> None:
    needs("no-such-package-of-ours>=1; extra == 'openvino'")
    remark = of("openvino", software.extras())
    assert remark.state == "note"
    assert remark.found.endswith("needed for --runtime openvino, and luna export --format openvino")
    assert remark.advice == "pip install 'p2ch-luna[openvino]'"


def test_which_packages_an_export_needs_is_told_by_format(needs: Callable[..., None]) -> None:
    needs("no-such-package-of-ours; extra == 'export'")
    said = "luna export --format onnx (onnx, onnxruntime) and --format openvino (openvino)"
    assert of("export", software.extras()).found.endswith(f"needed for {said}")


def test_an_extra_that_names_another_wants_its_packages(needs: Callable[..., None]) -> None:
    needs("p2ch-luna[dicom]; extra == 'serve'", "no-such-package-of-ours; extra == 'dicom'")
    assert "no-such-package-of-ours is not installed" in of("serve", software.extras()).found


def test_every_extra_has_a_purpose() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(declared) - {"dev"} <= set(software.PURPOSES)


def test_a_library_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: wrong ELF class")

    monkeypatch.setattr(software, "import_module", fail)
    (remark,) = software.libraries()
    assert remark.state == "problem"
    assert "wrong ELF class" in remark.found
    assert "pip install -e ." in remark.advice


def test_the_package_is_sought_in_no_index() -> None:
    assert all(f"install {software.PACKAGE}" not in advice for advice in (software.ANEW, software.REPLACE))


def test_the_bundled_networks_are_whole() -> None:
    assert {remark.state for remark in software.networks()} == {"ok"}


def test_a_damaged_network_is_a_problem(weights: Path) -> None:
    with (weights / "nodule.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    remark = of("nodule", software.networks())
    assert remark.state == "problem"
    assert "SHA-256" in remark.found
    assert "pip install --force-reinstall --no-deps WHEEL" in remark.advice


def test_a_network_that_is_not_there_is_a_problem(weights: Path) -> None:
    (weights / "segmentation.safetensors").unlink()
    assert of("segmentation", software.networks()).state == "problem"


def test_without_a_malignancy_network_a_diagnosis_is_possible(weights: Path) -> None:
    (weights / "malignancy.safetensors").unlink()
    remark = of("malignancy", software.networks())
    assert remark.state == "note"
    assert remark.advice.endswith("luna diagnose --malignancy FILE takes your own")


def test_an_encoding_that_cannot_hold_all_names_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    (remark,) = software.text()
    assert remark.state == "note"
    assert "PYTHONUTF8=1" in remark.advice
