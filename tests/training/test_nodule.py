"""The classifier's task: sums worked out by hand, figures of scores that are given."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from p2ch_luna.datasets.augment import Augmentation, Draw, draw
from p2ch_luna.datasets.candidates import CropSample
from p2ch_luna.errors import LunaError
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.nodule import (
    FALSE_POSITIVES,
    HITS,
    MISSES,
    N_PICTURES,
    CropLosses,
    augment_crops,
    counts,
    join,
    malignancy_target,
    observe,
    plain_crops,
    show_crops,
    summarise,
    totals,
)

NAN, LN2 = math.nan, math.log(2)
BOTH, ONLY_NODULE = CropLosses(), CropLosses(malignancy=0.0)


def crops(
    is_nodule: list[float], rating: list[float] | None = None, diameter_mm: list[float] | None = None
) -> CropSample:
    """Crops of 6 x 8 x 8 voxels; crop k is of k HU in its middle slice and of -1000 elsewhere."""
    hu = torch.full((len(is_nodule), 1, 6, 8, 8), -1000.0)
    hu[:, :, 3] = torch.arange(float(len(is_nodule)))[:, None, None, None]
    unknown = [NAN] * len(is_nodule)
    return CropSample(hu, *(torch.tensor(v) for v in (is_nodule, rating or unknown, diameter_mm or unknown)))


def logits(probability: list[float]) -> Tensor:
    return torch.logit(torch.tensor(probability))


def verdict(
    nodule: list[float], malignancy: list[float] | None = None, diameter_mm: list[float] | None = None
) -> Verdict:
    """Of these probabilities and diameters."""
    log_mm = None if diameter_mm is None else torch.tensor(diameter_mm).log()
    return Verdict(logits(nodule), logits(malignancy or [0.5] * len(nodule)), log_mm)


def summary(said: Verdict, batch: CropSample, how: CropLosses = BOTH) -> Evaluation:
    return summarise([observe(said, batch, how)], how)


def test_both_classes_are_counted_apart() -> None:
    assert counts(crops([1.0, 1.0, 0.0]), ONLY_NODULE)["nodule"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("labels", "count"), [("binary", 2), ("soft", 3), ("ordinal", 3)])
def test_an_indeterminate_rating_counts_where_labels_are_not_binary(
    labels: Literal["binary", "soft", "ordinal"], count: int
) -> None:
    batch = crops([1.0] * 4, rating=[1.0, 3.0, 5.0, NAN])
    assert counts(batch, CropLosses(malignancy_labels=labels))["malignancy"] == count


def test_diameters_are_counted_where_they_are_known() -> None:
    batch = crops([1.0, 1.0, 0.0], diameter_mm=[4.0, NAN, NAN])
    assert counts(batch, CropLosses(diameter=0.1))["diameter"] == 1


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        (CropLosses(), {"nodule", "malignancy"}),
        (CropLosses(diameter=1.0), {"nodule", "malignancy", "diameter"}),
        (CropLosses(nodule=0.0), {"malignancy"}),
    ],
)
def test_a_part_of_weight_0_is_left_out_of_both(how: CropLosses, parts: set[str]) -> None:
    batch, said = crops([1.0, 0.0]), verdict([0.5, 0.5], diameter_mm=[5.0, 5.0])
    found = totals(said, batch, how)
    assert set(counts(batch, how)) == set(found) == parts
    assert {name: total.shape for name, total in found.items()} == {
        name: count.shape for name, count in counts(batch, how).items()
    }


def test_a_total_is_times_its_weight() -> None:
    found = totals(verdict([0.5] * 4), crops([1.0, 1.0, 1.0, 0.0]), CropLosses(nodule=3.0))
    np.testing.assert_allclose(found["nodule"], [3 * 0.5 * LN2, 3 * 0.5 * 3 * LN2], rtol=1e-6)


def test_a_missed_nodule_weighs_more_where_that_is_wanted() -> None:
    how = CropLosses(false_negatives=3.0)  # parts of 1/4 and 3/4
    found = totals(verdict([0.5, 0.5]), crops([1.0, 0.0]), how)
    np.testing.assert_allclose(found["nodule"], [LN2 / 4, 3 * LN2 / 4], rtol=1e-6)


@pytest.mark.parametrize("labels", ["binary", "soft", "ordinal"])
def test_pieces_of_a_batch_add_up(labels: Literal["binary", "soft", "ordinal"]) -> None:
    how = CropLosses(diameter=0.5, malignancy_labels=labels)
    batch = crops([1.0, 0.0, 1.0], rating=[4.5, NAN, 2.0], diameter_mm=[9.0, NAN, 5.0])
    said = verdict([0.8, 0.3, 0.4], [0.6, 0.5, 0.9], [6.0, 4.0, 7.0])
    whole = totals(said, batch, how)
    pieces = [
        totals(Verdict(*(t[part] for t in said[:3])), CropSample(*(t[part] for t in batch)), how)
        for part in (slice(0, 1), slice(1, 3))
    ]
    for name, total in whole.items():
        torch.testing.assert_close(pieces[0][name] + pieces[1][name], total)


def test_an_indeterminate_nodule_gives_no_signal() -> None:
    logit = torch.zeros(2, requires_grad=True)
    said = Verdict(torch.zeros(2), logit)
    totals(said, crops([1.0, 1.0], rating=[3.0, 5.0]), CropLosses())["malignancy"].backward()
    assert logit.grad is not None
    assert logit.grad[0] == 0
    assert logit.grad[1] == pytest.approx(-0.5 * 0.3)


def test_soft_labels_run_from_0_at_the_lowest_rating_to_1_at_the_highest() -> None:
    rating = torch.tensor([1.0, 3.0, 5.0, NAN])
    np.testing.assert_equal(malignancy_target(rating, "soft").numpy(), [0.0, 0.5, 1.0, NAN])


def test_a_diameter_wanted_of_a_network_without_its_head_is_an_error() -> None:
    with pytest.raises(LunaError, match=r"loss\.diameter = 0\.5, but the network has no diameter head"):
        totals(verdict([0.5]), crops([1.0]), CropLosses(diameter=0.5))


def still(n: int) -> Draw:
    """A draw that leaves every sample as it is."""
    nothing = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    drawn = draw(n, nothing, torch.Generator().manual_seed(0))
    return replace(
        drawn, flips=torch.zeros(n, 3, dtype=torch.bool), transpose=torch.zeros(n, dtype=torch.bool)
    )


def test_a_nodule_made_larger_has_a_larger_diameter() -> None:
    squared = sum((axis - 15.5) ** 2 for axis in torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
    hu = torch.where(squared < 36, 0.0, -1000.0)[None, None]  # a ball of 12 mm
    batch = CropSample(hu, torch.ones(1), torch.full((1,), NAN), torch.tensor([12.0]))
    changed = augment_crops(batch, replace(still(1), linear=torch.eye(3)[None] / 1.5))
    larger = ((changed.hu > -500).sum() / (hu > -500).sum()).item() ** (1 / 3)
    assert larger == pytest.approx(1.5, rel=0.02)
    assert changed.diameter_mm.item() == pytest.approx(18.0)


def test_a_crop_that_is_only_mirrored_keeps_its_diameter() -> None:
    batch = crops([1.0, 0.0], diameter_mm=[7.0, NAN])
    changed = augment_crops(batch, replace(still(2), flips=torch.ones(2, 3, dtype=torch.bool)))
    assert torch.equal(changed.hu, batch.hu.flip(2, 3, 4))
    np.testing.assert_equal(changed.diameter_mm.numpy(), np.float32([7.0, NAN]))


def test_plain_crops_are_the_same_in_float() -> None:
    batch = crops([1.0, 0.0])
    plain = plain_crops(batch._replace(hu=batch.hu.to(torch.int16)))
    assert plain.hu.dtype == torch.float32
    assert torch.equal(plain.hu, batch.hu)


def test_a_batch_is_shown_above_what_became_of_it() -> None:
    batch = crops([1.0, 0.0])
    assert show_crops(batch, plain_crops(batch)).shape == (2 * 24 + 4, 2 * 24 + 4, 3)


def test_figures_of_nodules_against_the_rest() -> None:
    said = verdict([0.95, 0.65, 0.25, 0.75, 0.15])
    metrics = summary(said, crops([1.0, 1.0, 1.0, 0.0, 0.0])).metrics
    assert metrics["nodule_auc"] == pytest.approx(4 / 6)  # 0.65 and 0.25 lie below 0.75
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)  # the 1st, 3rd and 4th
    assert [metrics[k] for k in ("sensitivity", "precision", "f1")] == pytest.approx([2 / 3] * 3)
    gaps = [0.05, 0.35, 0.75, 0.75, 0.15]  # each alone in its bin
    assert metrics["calibration_error"] == pytest.approx(np.mean(gaps), rel=1e-5)


def test_the_loss_is_that_of_all_samples_at_once() -> None:
    batches = [(verdict([0.5]), crops([1.0])), (verdict([0.25] * 3), crops([1.0] * 3))]
    found = summarise([observe(*batch, ONLY_NODULE) for batch in batches], ONLY_NODULE).metrics
    assert found["loss"] == found["loss_nodule"] == pytest.approx((1 + 3 * 2) * LN2 / 4 / 2)


def test_how_samples_lie_in_batches_does_not_matter() -> None:
    how = CropLosses(diameter=0.2)
    batch = crops([1.0, 0.0, 1.0, 1.0], [4.0, NAN, 1.0, 3.0], [9.0, NAN, 5.0, 6.0])
    said = verdict([0.9, 0.4, 0.3, 0.8], [0.7, 0.5, 0.4, 0.5], [8.0, 4.0, 5.5, 9.0])
    parts = [slice(0, 3), slice(3, 4)]
    seen = [
        observe(Verdict(*(t[part] for t in said[:3])), CropSample(*(t[part] for t in batch)), how)
        for part in parts
    ]
    assert summarise(seen, how).metrics == pytest.approx(summary(said, batch, how).metrics, nan_ok=True)


def test_malignancy_is_judged_on_clear_nodules_beside_their_diameter() -> None:
    batch = crops([1.0] * 4 + [0.0], [5.0, 1.0, 2.0, 3.0, NAN], [6.0, 9.0, 4.0, 30.0, NAN])
    found = summary(verdict([0.9] * 5, [0.8, 0.3, 0.2, 0.9, 0.9]), batch).metrics
    assert found["malignancy_auc"] == 1.0
    assert found["malignancy_auc_of_diameter"] == 0.5  # 6 mm is above 4 and below 9
    assert found["malignancy_auc_gain"] == 0.5


def test_draws_of_the_same_nodules_make_the_gain_no_surer() -> None:
    """Of 2 nodules drawn 100 times each no test knows that they are 2: no bound and no p is told."""
    batch = crops([1.0] * 200, [5.0, 1.0] * 100, [6.0, 9.0] * 100)
    found = summary(verdict([0.9] * 200, [0.8, 0.3] * 100), batch).metrics
    assert [name for name in found if "gain" in name] == ["malignancy_auc_gain"]


def test_what_is_not_there_has_no_figure() -> None:
    found = summary(verdict([0.9, 0.8]), crops([1.0, 1.0])).metrics
    undefined = (
        "nodule_auc",
        "sensitivity_at_5_percent_fp",
        "malignancy_auc",
        "malignancy_auc_of_diameter",
        "malignancy_auc_gain",
    )
    assert all(math.isnan(found[name]) for name in undefined)


def test_sensitivity_is_at_the_lowest_threshold_that_one_other_of_twenty_passes() -> None:
    others = [0.02 * k for k in range(1, 19)] + [0.8, 0.9]
    metrics = summary(verdict([0.5, 0.79, 0.85, 0.95, *others]), crops([1.0] * 4 + [0.0] * 20)).metrics
    assert metrics["sensitivity_at_5_percent_fp"] == 0.5  # 0.85 and 0.95 are above 0.8


def test_the_diameters_error_is_the_median_over_known_ones() -> None:
    batch = crops([1.0] * 4, diameter_mm=[5.0, 5.0, 5.0, NAN])
    said = verdict([0.5] * 4, diameter_mm=[6.0, 3.0, 15.0, 99.0])
    found = summary(said, batch, CropLosses(diameter=1.0))
    assert found.metrics["diameter_error_mm"] == pytest.approx(2.0, rel=1e-5)


def test_without_a_diameter_in_the_loss_there_is_no_error_of_it() -> None:
    assert "diameter_error_mm" not in summary(verdict([0.5]), crops([1.0])).metrics


def test_a_malignancy_that_is_not_learnt_has_no_figure() -> None:
    found = summary(verdict([0.9, 0.1], [0.9, 0.5]), crops([1.0, 0.0], [5.0, NAN], [9.0, NAN]), ONLY_NODULE)
    assert "malignancy" not in found.curves
    assert not any(name.startswith("malignancy_auc") for name in found.metrics)


def test_curves_hold_every_crop_and_every_clear_nodule() -> None:
    batch = crops([1.0, 1.0, 0.0], [5.0, 3.0, NAN], [6.0, 6.0, NAN])
    curves = summary(verdict([0.9, 0.8, 0.1], [0.75, 0.5, 0.5]), batch).curves
    assert {name: truth.tolist() for name, (truth, _) in curves.items()} == {
        "nodule": [True, True, False],
        "malignancy": [True],
    }
    assert curves["malignancy"][1] == pytest.approx(0.75)


def middles(said: Verdict, batch: CropSample) -> dict[str, list[int]]:
    """Numbers of the crops shown, which are the HU of their middles."""
    seen = observe(said, batch, ONLY_NODULE)
    return {kind: [int(crop.hu[0, 0, 0]) for crop in shown] for kind, shown in seen.shown.items()}


def test_the_crops_shown_are_those_that_tell_most() -> None:
    said = verdict([0.9, 0.6, 0.3, 0.1, 0.2, 0.7])
    assert middles(said, crops([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])) == {
        HITS: [1, 0],
        MISSES: [3, 2],
        FALSE_POSITIVES: [5, 4],
    }


def test_joined_batches_show_no_more_than_one_and_the_most_telling() -> None:
    how, batch = ONLY_NODULE, crops([1.0] * 8)
    seen = [observe(verdict([p] * 8), batch, how) for p in (0.4, 0.1, 0.3)]
    shown = join(seen).shown[MISSES]
    assert [crop.rank for crop in shown] == pytest.approx([0.1] * 8 + [0.3] * (N_PICTURES - 8))


def test_an_observation_keeps_little_of_its_crops() -> None:
    batch = crops([1.0, 0.0] * 200)
    size = len(pickle.dumps(observe(verdict([0.7] * 400), batch, ONLY_NODULE)))
    assert size < batch.hu.numel() * 2 / 10  # int16 of all of them


def test_a_kind_of_which_there_is_none_has_no_picture() -> None:
    pictures = summary(verdict([0.9, 0.2]), crops([1.0, 0.0])).pictures
    assert set(pictures) == {HITS, FALSE_POSITIVES}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures.values())
