"""Crops with outlines: their losses worked out by hand, and that voxels and outlines move together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from p2ch_luna.datasets.augment import Augmentation, draw
from p2ch_luna.datasets.candidates import OutlinedSample
from p2ch_luna.datasets.scans import UNSURE
from p2ch_luna.errors import LunaError
from p2ch_luna.models.classifier import Verdict
from p2ch_luna.training.outlines import (
    MalignancyLosses,
    augment_crops,
    counts,
    idle_parts,
    show_crops,
    totals,
)

HOW = MalignancyLosses(nodule=0.0, malignancy=0.0, outline=2.0)


def crops(labels: Tensor) -> OutlinedSample:
    """Nodules of 8 mm, benign; a labelled voxel has 100 HU."""
    known = torch.ones(len(labels))
    return OutlinedSample((100 * (labels > 0)).to(torch.int16), known, 2 * known, 8 * known, labels)


def verdict(logit: Tensor | None, n: int = 1) -> Verdict:
    return Verdict(torch.zeros(n), torch.zeros(n), None, logit)


def one_labelled() -> Tensor:
    labels = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    labels[0, 0, 1, 2, 3] = 1
    return labels


def test_an_outline_that_is_nowhere_sure_loses_what_a_coin_does() -> None:
    """Cross-entropy: ln 2 of the nodule and of the hardest voxel beside it; Dice: (2 / 2 + 1) / (33 + 1)."""
    found = totals(verdict(torch.zeros(1, 1, 4, 4, 4)), crops(one_labelled()), HOW)
    assert found["outline"].item() == pytest.approx(2 * 2 * math.log(2), rel=1e-5)
    assert found["outline_dice"].item() == pytest.approx(2 * (1 - 2 / 34), rel=1e-5)


def test_a_right_outline_loses_nothing() -> None:
    labels = one_labelled()
    found = totals(verdict(torch.where(labels > 0, 30.0, -30.0)), crops(labels), HOW)
    assert sum(float(part) for part in found.values()) == pytest.approx(0, abs=1e-5)


def test_what_nobody_is_sure_of_does_not_count() -> None:
    labels = one_labelled()
    labels[0, 0, 0] = UNSURE
    wrong_there = torch.where(labels == 1, 30.0, -30.0)
    wrong_there[0, 0, 0] = 30.0
    found = totals(verdict(wrong_there), crops(labels), HOW)
    assert sum(float(part) for part in found.values()) == pytest.approx(0, abs=1e-5)


def test_a_crop_without_an_outlined_nodule_has_no_overlap() -> None:
    both = torch.cat([one_labelled(), torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)])
    assert {name: float(count) for name, count in counts(crops(both), HOW).items()} == {
        "outline": 2.0,
        "outline_dice": 1.0,
    }


def test_a_nodule_that_nobody_outlined_teaches_no_outline() -> None:
    unknown = torch.full((1, 1, 4, 4, 4), UNSURE, dtype=torch.uint8)
    alone, both = crops(one_labelled()), crops(torch.cat([one_labelled(), unknown]))
    logit = torch.full((2, 1, 4, 4, 4), 5.0)
    assert counts(both, HOW) == counts(alone, HOW)
    assert totals(verdict(logit, 2), both, HOW) == totals(verdict(logit[:1]), alone, HOW)


def test_without_a_weight_it_is_not_there() -> None:
    how = MalignancyLosses(nodule=0.0, malignancy=1.0, outline=0.0)
    assert set(totals(verdict(None), crops(one_labelled()), how)) == {"malignancy"}


def test_a_network_without_an_outline_is_told_what_to_change() -> None:
    with pytest.raises(LunaError, match=r"loss\.outline = 2, but .* wanted model\.outline = true"):
        totals(verdict(None), crops(one_labelled()), HOW)


def test_an_outline_of_no_weight_stays_untrained() -> None:
    loss = {"nodule": 0.0, "malignancy": 1.0, "diameter": 1.0, "outline": 0.0}
    assert idle_parts(loss) == ["heads.nodule", "outline"]
    assert idle_parts({**loss, "outline": 1.0}) == ["heads.nodule"]


def test_outlines_are_turned_with_their_nodules() -> None:
    only_flips = Augmentation(0, 0, 0, 0, 0, 0, 0, resample=0)
    labels = torch.zeros(8, 1, 8, 8, 8, dtype=torch.uint8)
    labels[:, 0, 1, 2, 5] = 1
    changed = augment_crops(crops(labels), draw(8, only_flips, torch.Generator().manual_seed(0)))
    assert not torch.equal(changed.labels, labels)
    assert torch.equal(changed.labels > 0, changed.hu > 50)


def test_a_picture_of_them_is_outlined() -> None:
    batch = crops(torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8))
    batch.labels[:, 0, 3:6, 3:6, 3:6] = 1
    plain = batch._replace(labels=torch.zeros_like(batch.labels))
    assert (show_crops(batch, batch) != show_crops(plain, plain)).any()
