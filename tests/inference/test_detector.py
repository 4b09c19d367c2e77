from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.geometry import CtVolume, ImageGeometry
from p2ch_luna.inference import Diagnosis, NoduleDetector
from p2ch_luna.inference.detector import propose_candidates
from p2ch_luna.lungs import prepare
from p2ch_luna.models.checkpoint import WEIGHTS, Calibration, ModelCard, save_model
from p2ch_luna.models.classifier import NoduleClassifier

BALL_XYZ = (-38.0, 6.0, 45.0)


def places(diagnosis: Diagnosis) -> list[tuple[float, float, float]]:
    return [d.center_xyz for d in diagnosis.detections]


def test_the_ball_is_found_where_it_lies(detector: NoduleDetector, scan: CtVolume) -> None:
    (center,) = places(detector(scan))
    assert center == pytest.approx(BALL_XYZ, abs=0.7)


def test_its_diameter_is_measured(detector: NoduleDetector, scan: CtVolume) -> None:
    (found,) = detector(scan).detections
    assert found.diameter_mm == pytest.approx(10, abs=1.5)


def test_what_lies_outside_the_lungs_is_kept_as_dropped(
    detector: NoduleDetector, make_chest: Callable[..., CtVolume]
) -> None:
    chest = make_chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160))
    i, r, c = np.rint(chest.geometry.to_irc((0.0, 0.0, 45.0))).astype(int)
    chest.hu[i - 1 : i + 2, r - 2 : r + 3, c - 2 : c + 3] = 950  # between the lungs, 6 mm from each
    found = detector(chest)
    ((candidate, reason),) = found.dropped
    assert candidate.center_xyz == pytest.approx((0, 0, 45), abs=1.5)
    assert reason.startswith("outside the lungs")
    assert len(found.detections) == 1


def test_both_stages_are_joined(detector: NoduleDetector, scan: CtVolume) -> None:
    (found,) = detector(scan).detections  # logits 4 and 2: their mean is 3
    assert found.probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-4)


def calibrated(detector: NoduleDetector, of: str = "0123456789ab") -> NoduleDetector:
    """The joint logit is 1 x that of the segmentation + 0.5 x that of the classifier - 6."""
    calibration = Calibration(
        segmentation=1.0, classifier=0.5, intercept=-6.0, operating_points=(), on="", segmentation_sha256=of
    )
    cards = {
        "segmentation": bare_card("segmentation_unet", sha256="0123456789ab"),
        "classifier": bare_card("nodule_classifier").model_copy(update={"calibration": calibration}),
    }
    return replace(detector, models=cards)


def bare_card(builder: str, sha256: str = "") -> ModelCard:
    return ModelCard(
        builder=builder, arguments={}, config={}, data=[], split={}, metrics={}, software="",
        weights_sha256=sha256,
    )  # fmt: skip


def test_the_calibration_of_the_classifiers_card_joins_the_stages(
    detector: NoduleDetector, scan: CtVolume
) -> None:
    (found,) = calibrated(detector)(scan).detections  # logits 4 and 2: 4 + 1 - 6
    assert found.probability == pytest.approx(1 / (1 + np.e), rel=1e-4)


def test_without_its_calibration_the_mean_joins_them(detector: NoduleDetector, scan: CtVolume) -> None:
    bare = calibrated(detector).uncalibrated()
    assert bare.calibration is None
    assert bare(scan).detections == detector(scan).detections


def test_two_stages_have_no_network_of_malignancy(detector: NoduleDetector) -> None:
    three = replace(
        calibrated(detector),
        malignancy=Suspicious(),
        models={**calibrated(detector).models, "malignancy": bare_card("nodule_classifier")},
    )
    two = three.two_stages()
    assert two.malignancy is None
    assert list(two.models) == ["segmentation", "classifier"]
    assert two.calibration == three.calibration


def test_a_calibration_with_another_segmentation_is_told(detector: NoduleDetector, scan: CtVolume) -> None:
    (warning,) = calibrated(detector, "segmentation 999999999999")(scan).warnings
    assert "calibrated with another segmentation" in warning


def test_a_calibration_with_this_segmentation_is_not_told(detector: NoduleDetector, scan: CtVolume) -> None:
    assert calibrated(detector)(scan).warnings == []


def test_malignancy_is_passed_on(detector: NoduleDetector, scan: CtVolume) -> None:
    (found,) = detector(scan).detections
    assert found.malignancy_probability == pytest.approx(1 / (1 + np.e), rel=1e-5)


class Suspicious(nn.Module):
    """Malignant by a logit of 3, and no nodule by one of -9; keeps the shapes of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        self.shapes.append(tuple(hu.shape))
        return torch.full((len(hu),), -9.0), torch.full((len(hu),), 3.0)


def test_a_network_of_its_own_says_how_malignant(detector: NoduleDetector, scan: CtVolume) -> None:
    (found,) = replace(detector, malignancy=Suspicious())(scan).detections
    assert found.malignancy_probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


def test_the_network_for_malignancy_has_no_say_in_nodules(detector: NoduleDetector, scan: CtVolume) -> None:
    (alone,), (found,) = (d(scan).detections for d in (detector, replace(detector, malignancy=Suspicious())))
    assert (found.probability, found.classifier_probability) == (
        alone.probability,
        alone.classifier_probability,
    )


def test_the_network_for_malignancy_has_crops_of_its_own_size(
    detector: NoduleDetector, scan: CtVolume
) -> None:
    network = Suspicious()
    replace(detector, malignancy=network, malignancy_crop_irc=(32, 32, 32))(scan)
    assert network.shapes == [(1, 1, 32, 32, 32)]


def taught(detector: NoduleDetector, malignancy: float) -> NoduleDetector:
    """Its classifier was trained with this weight of malignancy."""
    card = bare_card("nodule_classifier").model_copy(update={"config": {"loss": {"malignancy": malignancy}}})
    return replace(detector, models={"classifier": card})


def test_a_head_that_nothing_trained_says_nothing_of_malignancy(
    detector: NoduleDetector, scan: CtVolume
) -> None:
    (found,) = taught(detector, 0.0)(scan).detections
    assert found.malignancy_probability is None
    assert found.probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-4)


def test_a_trained_head_says_how_malignant(detector: NoduleDetector, scan: CtVolume) -> None:
    (found,) = taught(detector, 0.3)(scan).detections
    assert found.malignancy_probability == pytest.approx(1 / (1 + np.e), rel=1e-5)


def test_a_network_of_its_own_takes_the_place_of_an_untrained_head(
    detector: NoduleDetector, scan: CtVolume
) -> None:
    (found,) = replace(taught(detector, 0.0), malignancy=Suspicious())(scan).detections
    assert found.malignancy_probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


def save_classifier(folder: Path, task: str | None, side: int = 48, malignancy: float = 1.0) -> Path:
    torch.manual_seed(0)
    arguments = {"widths": [8, 8, 8, 8]}
    loss = {"malignancy": malignancy}
    config = {"data": {"shape_irc": [side] * 3}, "loss": loss, **({"task": task} if task else {})}
    path = folder / f"{task}.safetensors"
    card = ModelCard(
        builder="nodule_classifier",
        arguments=arguments,
        config=config,
        data=[],
        split={},
        metrics={},
        software="",
    )
    save_model(path, NoduleClassifier(**arguments), card)
    return path


def test_each_model_has_the_crops_that_its_card_says(tmp_path: Path) -> None:
    detector = NoduleDetector.load(
        classifier=save_classifier(tmp_path, "nodule", 48),
        malignancy=save_classifier(tmp_path, "malignancy", 32),
    )
    assert (detector.crop_irc, detector.malignancy_crop_irc) == ((48, 48, 48), (32, 32, 32))


def test_the_model_of_malignancy_is_among_those_told(tmp_path: Path) -> None:
    detector = NoduleDetector.load(malignancy=save_classifier(tmp_path, "malignancy"))
    assert {stage: card.config["task"] for stage, card in detector.models.items()} == {
        "segmentation": "segmentation",
        "classifier": "nodule",
        "malignancy": "malignancy",
    }


@pytest.fixture
def bundled_malignancy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bundled network of malignancy would lie; the other two are those that there are."""
    path = tmp_path / "bundled" / "malignancy.safetensors"
    for module in ("inference.detector", "models.checkpoint"):
        monkeypatch.setattr(
            f"p2ch_luna.{module}.bundled",
            lambda name: path if name == "malignancy" else WEIGHTS / f"{name}.safetensors",
        )
    return path


def test_without_a_bundled_model_of_malignancy_there_are_two_networks(bundled_malignancy: Path) -> None:
    assert not bundled_malignancy.exists()
    detector = NoduleDetector.load()
    assert detector.malignancy is None
    assert list(detector.models) == ["segmentation", "classifier"]


def test_the_bundled_model_of_malignancy_is_the_third_network(
    tmp_path: Path, bundled_malignancy: Path
) -> None:
    made = save_classifier(tmp_path, "malignancy", side=32)
    bundled_malignancy.parent.mkdir()
    for suffix in (".safetensors", ".json"):
        made.with_suffix(suffix).rename(bundled_malignancy.with_suffix(suffix))
    detector = NoduleDetector.load()
    assert list(detector.models) == ["segmentation", "classifier", "malignancy"]
    assert detector.malignancy_crop_irc == (32, 32, 32)


def test_a_model_of_malignancy_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="trained for the task 'malignancy'; wanted one for 'nodule'"):
        NoduleDetector.load(classifier=save_classifier(tmp_path, "malignancy"))


@pytest.mark.parametrize("task", ["nodule", None])
def test_a_classifier_is_no_model_of_malignancy(tmp_path: Path, task: str | None) -> None:
    with pytest.raises(LunaError, match=f"trained for the task {task!r}; wanted one for 'malignancy'"):
        NoduleDetector.load(malignancy=save_classifier(tmp_path, task))


def test_a_model_of_malignancy_has_learnt_it(tmp_path: Path) -> None:
    path = save_classifier(tmp_path, "malignancy", malignancy=0.0)
    with pytest.raises(
        LunaError, match=r"malignancy.safetensors: trained with loss.malignancy = 0, .* above 0"
    ):
        NoduleDetector.load(malignancy=path)


def test_a_flipped_file_has_the_same_findings(detector: NoduleDetector, scan: CtVolume) -> None:
    geometry = scan.geometry
    flipped = CtVolume(
        scan.series_uid,
        scan.hu[::-1, :, ::-1].copy(),
        replace(
            geometry,
            origin_xyz=geometry.to_xyz((scan.hu.shape[0] - 1, 0, scan.hu.shape[2] - 1)),
            direction=geometry.direction @ np.diag([-1.0, 1.0, -1.0]),
        ),
    )
    np.testing.assert_allclose(places(detector(flipped)), places(detector(scan)), atol=1e-6)


def test_a_file_of_sagittal_slices_has_the_same_findings(detector: NoduleDetector, scan: CtVolume) -> None:
    geometry = scan.geometry  # index runs along x, row along y, col along z
    sagittal = CtVolume(
        scan.series_uid,
        scan.hu.transpose(2, 1, 0).copy(),
        replace(geometry, spacing_xyz=geometry.spacing_xyz[::-1], direction=geometry.direction[:, ::-1]),
    )
    np.testing.assert_allclose(places(detector(sagittal)), places(detector(scan)), atol=1e-6)


def test_a_tilted_scan_has_the_ball_at_the_same_place(
    detector: NoduleDetector, make_chest: Callable[..., CtVolume]
) -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    tilt = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    tilted = make_chest(
        ImageGeometry(np.array([-95.0, -110.0, -5.0]), np.array([1.25, 1.25, 2.0]), tilt), (50, 150, 180)
    )
    (center,) = places(detector(tilted))
    assert center == pytest.approx(BALL_XYZ, abs=0.7)


def test_lungs_without_a_nodule_have_no_detection(
    detector: NoduleDetector, make_chest: Callable[..., CtVolume]
) -> None:
    empty = make_chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160), 0.0)
    assert detector(empty).detections == []


@pytest.fixture
def head(make_chest: Callable[..., CtVolume]) -> CtVolume:
    """A ball in a body without lungs."""
    chest = make_chest(ImageGeometry.axial((1.25, 1.25, 2.0), (-100.0, -75.0, -5.0)), (50, 120, 160))
    return replace(chest, hu=np.where(chest.hu == -850, 0, chest.hu).astype(np.int16))


def test_a_scan_without_lungs_is_not_searched(detector: NoduleDetector, head: CtVolume) -> None:
    diagnosis = detector(head)
    assert (diagnosis.detections, diagnosis.regions) == ([], ())
    assert (diagnosis.lungs, diagnosis.prepared) == (None, None)
    assert list(diagnosis.timings_s) == ["lungs"]


def test_it_is_told_that_nothing_was_searched(detector: NoduleDetector, head: CtVolume) -> None:
    (told,) = detector(head).warnings
    assert told.startswith("no lungs found: 0 ml of lung inside the body, ")
    assert told.endswith(" ml wanted; nothing was searched")


def test_a_scan_without_lungs_is_searched_if_asked_for(detector: NoduleDetector, head: CtVolume) -> None:
    diagnosis = replace(detector, search_without_lungs=True)(head)
    assert len(diagnosis.detections) == len(diagnosis.regions) == 1
    assert diagnosis.lungs is None
    (told,) = diagnosis.warnings
    assert told.endswith("searching the whole body")


def test_lungs_that_are_cut_off_are_told(detector: NoduleDetector, scan: CtVolume) -> None:
    (told,) = detector(replace(scan, hu=scan.hu[:20])).warnings
    assert told.startswith("the lungs are cut off at the top of the scan, across ")


def test_regions_are_in_the_order_of_the_detections(detector: NoduleDetector, scan: CtVolume) -> None:
    """The ball that the classifier likes less is the one that the segmentation proposes first."""

    class Likes(nn.Module):
        """The smaller ball, for it has less of the crop."""

        def forward(self, hu: Tensor) -> tuple[Tensor, Tensor]:
            voxels = (hu > 0.5 * 950).sum((1, 2, 3, 4)).float()
            return 2 - voxels / 300, -voxels

    two = replace(scan, hu=scan.hu.copy())
    two.hu[22:27, 57:63, 110:116] = 950
    diagnosis = replace(detector, classifier=Likes())(two)
    assert len(diagnosis.detections) == 2
    volumes = [detection.volume_mm3 for detection in diagnosis.detections]
    assert volumes[0] < volumes[1]
    for detection, region in zip(diagnosis.detections, diagnosis.regions, strict=True):
        off_mm = np.abs(region.geometry.to_xyz((np.array(region.probability.shape) - 1) / 2)
                        - detection.center_xyz)  # fmt: skip
        assert off_mm.max() < 1


def test_good_lungs_give_no_warning(detector: NoduleDetector, scan: CtVolume) -> None:
    assert detector(scan).warnings == []


def test_stages_are_told_and_timed(detector: NoduleDetector, scan: CtVolume) -> None:
    class Heard:
        def __init__(self) -> None:
            self.stages: list[str] = []

        def stage(self, text: str, total: float | None = None) -> None:
            self.stages.append(text)

        def advance(self, steps: float = 1) -> None: ...

    heard = Heard()
    diagnosis = detector(scan, heard)
    assert (
        heard.stages == list(diagnosis.timings_s) == ["lungs", "segmentation", "candidates", "classification"]
    )


def test_mining_sees_the_candidates_that_diagnosis_scores(detector: NoduleDetector, scan: CtVolume) -> None:
    candidates = propose_candidates(detector.segmentation, prepare(scan), torch.device("cpu"))
    assert [c.center_xyz for c in candidates] == places(detector(scan))


@pytest.mark.slow
def test_the_real_networks_fit_the_detector(scan: CtVolume) -> None:
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.models.unet import SegmentationUNet

    class Eager(nn.Module):
        """An untrained U-Net, its logits raised until something is proposed."""

        def __init__(self) -> None:
            super().__init__()
            self.net = SegmentationUNet(widths=(8, 8, 8, 8))

        def forward(self, hu: Tensor) -> Tensor:
            logit: Tensor = self.net(hu)
            return logit - logit.mean()

    torch.manual_seed(0)
    cpu = torch.device("cpu")
    detector = NoduleDetector(ready(Eager(), cpu), ready(NoduleClassifier(widths=(8, 8, 8, 8)), cpu), cpu)
    assert detector(scan).detections
