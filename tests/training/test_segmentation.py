import math
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from p2ch_luna.datasets.augment import Augmentation, draw
from p2ch_luna.datasets.patches import PatchBatch, PatchSample
from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.training import segmentation
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.pictures import CAPTION_HEIGHT, GREEN, RED
from p2ch_luna.training.segmentation import (
    PatchObservation,
    SegmentationLosses,
    augment_patches,
    counts,
    observe,
    plain_patches,
    show_patches,
    summarise,
    totals,
)

HOW = SegmentationLosses()
SIDE = 16


def volume(*boxes: tuple[int, int]) -> NDArray[np.bool_]:
    """16 x 16 x 16 with cubes of these sides at these corners."""
    array = np.zeros((SIDE, SIDE, SIDE), bool)
    for corner, side in boxes:
        array[(slice(corner, corner + side),) * 3] = True
    return array


def patches(*labels: NDArray[np.generic]) -> PatchBatch:
    """A batch of these labels in a CT of -900 HU."""
    stacked = torch.from_numpy(np.stack(labels).astype(np.uint8))[:, None]
    return plain_patches(PatchSample(torch.full_like(stacked, -900, dtype=torch.int16), stacked))


def said(*probabilities: Sequence[tuple[NDArray[np.bool_], float]]) -> torch.Tensor:
    """A logit map a patch: these probabilities at these places, 0.01 elsewhere."""
    maps = np.full((len(probabilities), 1, SIDE, SIDE, SIDE), 0.01, np.float32)
    for one, places in zip(maps, probabilities, strict=True):
        for place, probability in places:
            one[0][place] = probability
    return torch.from_numpy(maps).logit()


def evaluate(logit: torch.Tensor, batch: PatchBatch) -> Evaluation:
    return summarise([observe(logit, batch, HOW)], HOW)


NODULE, OTHER, VESSEL = volume((2, 3)), volume((9, 6)), volume((10, 3))


def test_a_perfect_map_has_perfect_figures() -> None:
    both = NODULE | OTHER
    metrics = evaluate(said([(both, 0.99)]), patches(both)).metrics
    perfect = ["sensitivity", "precision", "f1", "dice", "sensitivity_proposed"]
    assert [metrics[name] for name in perfect] == [1.0] * 5
    assert metrics["false_positives_per_patch"] == 0.0


def test_one_false_positive_above_the_nodule_in_one_patch_costs_its_sensitivity() -> None:
    metrics = evaluate(said([(NODULE, 0.6), (VESSEL, 0.9)]), patches(NODULE)).metrics
    assert metrics["sensitivity"] == metrics["f1"] == 0.0
    assert math.isnan(metrics["precision"])  # nothing is left to be right
    assert metrics["sensitivity_proposed"] == 1.0


def test_one_false_positive_in_five_patches_is_allowed() -> None:
    empty = volume()
    metrics = evaluate(
        said([(NODULE, 0.6), (VESSEL, 0.9)], [(VESSEL, 0.5)], [], [], []),
        patches(NODULE, empty, empty, empty, empty),
    ).metrics
    assert metrics["sensitivity"] == 1.0  # the threshold is the second false positive's, 0.5
    assert metrics["precision"] == 0.5
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert metrics["false_positives_per_patch"] == pytest.approx(2 / 5)


def test_sensitivity_and_dice_are_told_by_size() -> None:
    # spheres of as many voxels: 27, 3.7 mm; 216, 7.4 mm; 1000, 12.4 mm
    small, medium, large = volume((2, 3)), volume((9, 6)), volume((3, 10))
    metrics = evaluate(
        said([(small, 0.05)], [(medium, 0.9)], [(volume((3, 5)), 0.3)]), patches(small, medium, large)
    ).metrics
    by_size = [metrics[f"sensitivity_{size}"] for size in ("under_6mm", "6_to_10mm", "over_10mm")]
    assert by_size == [0.0, 1.0, 1.0]
    assert [metrics[f"dice_{size}"] for size in ("under_6mm", "6_to_10mm", "over_10mm")] == [0.0, 1.0, 0.0]
    assert metrics["dice"] == pytest.approx(1 / 3)


def test_figures_without_a_nodule_are_not_defined() -> None:
    metrics = evaluate(said([(VESSEL, 0.9)]), patches(volume())).metrics
    undefined = {name for name, value in metrics.items() if math.isnan(value)}
    of_nodules = {name for name in metrics if name.startswith(("sensitivity", "dice"))}
    assert undefined == of_nodules | {"f1", "precision"}


def test_calibration_is_of_the_voxels_that_may_be_a_nodule() -> None:
    # every 4th voxel of the cube of 8 from 4: 8 of them, said 0.75; those from 8 on, 1 of 8, are true
    metrics = evaluate(said([(volume((4, 8)), 0.75)]), patches(volume((8, 4)))).metrics
    assert metrics["calibration_error"] == pytest.approx(0.75 - 1 / 8)


def test_the_curve_has_every_fourth_voxel_whose_truth_is_known() -> None:
    labels = volume((4, 8)).astype(np.uint8)
    labels[8:] = UNSURE
    truth, probability = evaluate(said([(volume((4, 1)), 0.7)]), patches(labels)).curves["voxels"]
    assert len(truth) == 2 * 4 * 4  # the slices 0 and 4
    assert truth.sum() == 4
    assert np.sort(probability)[-2:] == pytest.approx([0.01, 0.7])


def test_the_curve_is_thinned_where_it_would_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "MOST_VOXELS", 50)
    truth, _ = evaluate(said([]), patches(volume())).curves["voxels"]  # 64 voxels, of which every second
    assert len(truth) == 32


def test_the_loss_of_a_validation_is_that_of_one_large_batch() -> None:
    labels = [NODULE, volume(), OTHER, volume()]
    logit = said([(NODULE, 0.4)], [(VESSEL, 0.3)], [(OTHER, 0.8)], [])
    how = SegmentationLosses(focal=2.0, bce=0.5, dice=1.0)
    pieces = [
        observe(logit[some], patches(*labels[some]), how) for some in (slice(0, 1), slice(1, 2), slice(2, 4))
    ]
    metrics = summarise(pieces, how).metrics
    whole = totals(logit, patches(*labels), how)
    number = counts(patches(*labels), how)
    for name in ("focal", "bce", "dice"):
        assert metrics[f"loss_{name}"] == pytest.approx((whole[name] / number[name]).item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(sum(metrics[f"loss_{name}"] for name in whole))


def test_metrics_do_not_depend_on_how_the_patches_come_in_batches() -> None:
    labels = [NODULE, volume(), OTHER]
    logit = said([(NODULE, 0.4), (VESSEL, 0.2)], [(VESSEL, 0.3)], [(OTHER, 0.8)])
    whole = summarise([observe(logit, patches(*labels), HOW)], HOW).metrics
    single = [observe(logit[i : i + 1], patches(labels[i]), HOW) for i in range(3)]
    assert summarise(single, HOW).metrics == pytest.approx(whole, rel=1e-5, nan_ok=True)


def test_totals_carry_the_weights_of_the_parts() -> None:
    batch, logit = patches(NODULE), said([(NODULE, 0.3)])
    once = totals(logit, batch, SegmentationLosses(focal=1.0, bce=1.0, dice=1.0))
    more = totals(logit, batch, SegmentationLosses(focal=3.0, bce=0.5, dice=2.0))
    ratio = {name: (more[name] / once[name]).item() for name in once}
    assert ratio == pytest.approx({"focal": 3.0, "bce": 0.5, "dice": 2.0})


def test_counts_worked_out_by_hand() -> None:
    number = counts(patches(NODULE, volume()), SegmentationLosses(bce=1.0))
    assert {name: value.item() for name, value in number.items()} == {"focal": 8192, "bce": 2, "dice": 1}


def test_a_part_of_weight_zero_is_left_out() -> None:
    how = SegmentationLosses(focal=0.0, bce=1.0, dice=0.0)
    batch = patches(NODULE)
    assert set(totals(said([]), batch, how)) == set(counts(batch, how)) == {"bce"}


def test_the_loss_table_reaches_its_functions() -> None:
    batch, logit = patches(NODULE), said([(NODULE, 0.3), (VESSEL, 0.6)])
    plain = totals(logit, batch, SegmentationLosses(bce=1.0))
    assert totals(logit, batch, SegmentationLosses(bce=1.0, hard_share=1.0))["bce"] < plain["bce"]
    missed = said([(NODULE, 0.3)])
    dice, tversky = (
        totals(missed, batch, SegmentationLosses(false_negatives=weight))["dice"] for weight in (1.0, 4.0)
    )
    assert tversky.item() != pytest.approx(dice.item(), rel=0.01)


def test_an_observation_can_be_sent_to_another_process() -> None:
    seen = observe(said([(NODULE, 0.9), (VESSEL, 0.8)]), patches(NODULE), HOW)
    sent = pickle.loads(pickle.dumps(seen))
    assert summarise([sent], HOW).metrics == pytest.approx(summarise([seen], HOW).metrics, nan_ok=True)


def shown(evaluation: Evaluation, name: str) -> NDArray[np.uint8]:
    """The one picture of a sheet, without its caption, a pixel a voxel."""
    return evaluation.pictures[name][:-CAPTION_HEIGHT][1::3, 1::3]


def colored(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return (picture == color).all(axis=2)


def test_a_miss_is_shown_at_its_largest_slice() -> None:
    labels = np.zeros((SIDE, SIDE, SIDE), bool)
    labels[3, 5, 5], labels[4, 4:7, 4:7] = True, True
    hu = torch.full((1, 1, SIDE, SIDE, SIDE), -900.0)
    hu[0, 0, 4, 12, 12] = 400
    miss = shown(evaluate(said([]), patches(labels)._replace(hu=hu)), "misses")
    assert (miss[12, 12] == 255).all()


def test_hits_misses_and_false_positives_are_told_apart() -> None:
    # one false positive of three patches is one too many: the threshold is 0.5
    logit = said([(NODULE, 0.9)], [(OTHER, 0.4)], [(VESSEL, 0.5)])
    evaluation = evaluate(logit, patches(NODULE, OTHER, volume()))
    assert set(evaluation.pictures) == {"hits", "misses", "worst false positives"}


def test_what_is_true_and_what_was_said_are_outlined() -> None:
    large = volume((4, 6))
    sheet = evaluate(said([(volume((4, 9)), 0.9)]), patches(large)).pictures["hits"]
    assert tuple(sheet[4 * 3, 4 * 3]) == GREEN
    assert tuple(sheet[13 * 3 - 1, 13 * 3 - 1]) == RED


def test_a_false_positive_is_shown_at_its_peak_and_outlined_however_faint() -> None:
    peak = np.zeros((SIDE, SIDE, SIDE), bool)
    peak[11, 11, 11] = True
    hu = torch.full((1, 1, SIDE, SIDE, SIDE), -900.0)
    hu[0, 0, 11, 2, 2] = 400
    evaluation = evaluate(said([(VESSEL, 0.2), (peak, 0.3)]), patches(volume())._replace(hu=hu))
    sheet = evaluation.pictures["worst false positives"]
    assert (sheet[2 * 3, 2 * 3] == 255).all()
    assert tuple(sheet[10 * 3, 10 * 3]) == RED


def test_pictures_are_sorted_by_what_matters() -> None:
    def observation(nodule: NDArray[np.bool_], probability: float, false: float) -> PatchObservation:
        return observe(said([(nodule, probability), (volume((0, 1)), false)]), patches(nodule), HOW)

    seen = [observation(NODULE, 0.2, 0.55), observation(OTHER, 0.3, 0.6), observation(NODULE, 0.95, 0.3)]
    seen += [observation(OTHER, 0.8, 0.5)]
    captions: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "captioned", lambda image, text: captions.append(text) or image)
        summarise(seen, HOW)
    assert captions == [
        "7 mm, p = 0.80", "4 mm, p = 0.95",
        "7 mm, p = 0.30", "4 mm, p = 0.20",
        "p = 0.60", "p = 0.55", "p = 0.50", "p = 0.30",
    ]  # fmt: skip


def test_a_batch_keeps_its_few_most_telling_findings() -> None:
    corners = range(0, SIDE, 2)
    specks = [(volume((corner, 1)), 0.2 + corner / 100) for corner in corners]
    seen = observe(said(specks), patches(volume()), HOW)
    assert len(seen.findings[0].candidate_probability) == 8
    assert [one.probability for one in seen.false_candidates] == [pytest.approx(0.34)]
    seen = observe(said(specks), patches(volume(*((corner, 1) for corner in corners))), HOW)
    assert [one.probability for one in seen.nodules] == pytest.approx([0.2, 0.22])


def test_augmenting_moves_the_labels_with_the_image() -> None:
    labels = torch.from_numpy(volume((1, 4)).astype(np.uint8))[None, None].repeat(4, 1, 1, 1, 1)
    sample = PatchSample((labels.short() * 1000 - 900), labels)
    how = Augmentation(0, 0, 0, 0, 0, 0, 0, 0)  # flips and transposes alone
    batch = augment_patches(sample, draw(4, how, torch.Generator().manual_seed(3)))
    assert batch.hu.dtype == torch.float32
    assert not torch.equal(batch.mask, plain_patches(sample).mask)
    torch.testing.assert_close(batch.mask * 1000 - 900, batch.hu)


def test_plain_patches_are_float_and_weigh_nothing_where_unsure() -> None:
    labels = NODULE.astype(np.uint8)
    labels[12:] = UNSURE
    batch = patches(labels)
    assert batch.hu.dtype == torch.float32
    assert batch.mask.sum() == 27
    assert (batch.weight[0, 0] == 0).sum() == 4 * SIDE * SIDE


def test_the_picture_of_augmentation_has_a_sample_above_what_became_of_it() -> None:
    sample = PatchSample(*(torch.zeros(2, 1, SIDE, SIDE, SIDE, dtype=t) for t in (torch.int16, torch.uint8)))
    assert show_patches(sample, plain_patches(sample)).shape == (2 * SIDE * 3 + 4, 2 * SIDE * 3 + 4, 3)
