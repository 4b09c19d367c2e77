"""Finders go the way of the diagnosis: their marks are its detections."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.geometry import CtVolume
from p2ch_luna.inference import NoduleDetector
from p2ch_luna.inference.finders import classifier_finder, segmentation_finder
from p2ch_luna.lungs import PreparedCt, prepare
from p2ch_luna.models.checkpoint import bundled

CPU = torch.device("cpu")
CROP = (48, 48, 48)


class Counting(nn.Module):
    """Another network, and how often it was asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.count = 0

    def forward(self, hu: Tensor) -> Any:
        """As the other."""
        self.count += 1
        return self.network(hu)


@pytest.fixture
def prepared(scan: CtVolume) -> PreparedCt:
    return prepare(scan)


@pytest.fixture
def proposer(detector: NoduleDetector) -> Counting:
    return Counting(detector.segmentation)


@pytest.fixture
def asked(proposer: Counting, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which weights are read; `proposer` comes instead."""
    paths: list[Path] = []

    def load(weights: Path, device: torch.device, builder: str) -> tuple[nn.Module, None]:  # noqa: ARG001
        assert builder == "segmentation_unet"
        paths.append(weights)
        return proposer, None

    monkeypatch.setattr("p2ch_luna.inference.finders.load_model", load)
    return paths


@pytest.fixture
def known(asked: list[Path]) -> Callable[..., Any]:  # noqa: ARG001
    return classifier_finder(CPU, None, CROP)


def test_a_segmentation_finds_what_it_proposes(
    detector: NoduleDetector, scan: CtVolume, prepared: PreparedCt
) -> None:
    (mark,) = segmentation_finder(CPU)(detector.segmentation, prepared)
    (detection,) = detector(scan).detections
    assert mark.center_xyz == detection.center_xyz
    assert mark.probability == detection.segmentation_probability


def test_a_classifier_finds_what_the_diagnosis_finds(
    detector: NoduleDetector, scan: CtVolume, prepared: PreparedCt, known: Callable[..., Any]
) -> None:
    assert list(known(detector.classifier, prepared)) == detector(scan).detections


def test_a_scan_is_segmented_once(
    detector: NoduleDetector, prepared: PreparedCt, known: Callable[..., Any], proposer: Counting
) -> None:
    known(detector.classifier, prepared)
    first = proposer.count
    known(detector.classifier, prepared)
    assert proposer.count == first > 0


def test_the_classifier_is_asked_every_time(
    detector: NoduleDetector, prepared: PreparedCt, known: Callable[..., Any]
) -> None:
    classifier = Counting(detector.classifier)
    known(classifier, prepared)
    known(classifier, prepared)
    assert classifier.count == 2


def test_another_scan_is_segmented_itself(
    detector: NoduleDetector, prepared: PreparedCt, known: Callable[..., Any]
) -> None:
    known(detector.classifier, prepared)
    other = replace(prepared, ct=replace(prepared.ct, series_uid="4.5.6"))
    assert {mark.series_uid for mark in known(detector.classifier, other)} == {"4.5.6"}


def test_crops_are_as_large_as_asked_for(prepared: PreparedCt, asked: list[Path]) -> None:  # noqa: ARG001
    shapes = []

    class Shapes(nn.Module):
        def forward(self, hu: Tensor) -> Any:
            shapes.append(tuple(hu.shape[2:]))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        classifier_finder(CPU, None, (32, 48, 48))(Shapes(), prepared)
    assert shapes == [(32, 48, 48)]


@pytest.mark.parametrize(
    ("segmentation", "weights"), [(None, bundled("segmentation")), (Path("own.st"), Path("own.st"))]
)
def test_the_weights_are_read_when_it_is_made(
    asked: list[Path], segmentation: Path | None, weights: Path
) -> None:
    classifier_finder(CPU, segmentation, CROP)
    assert asked == [weights]
