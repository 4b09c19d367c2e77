from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from p2ch_luna.datasets.augment import Augmentation, Draw, apply, draw, move_points
from p2ch_luna.datasets.augment_ops import bend_at, middle

NOTHING = Augmentation(
    thick_slices=0, blur=0, noise_hu=0, gain=0, shift_hu=0, gamma=0, resample=0
)  # fmt: skip
SHAPE = (20, 32, 32)  # fewer slices than rows
# A quarter turn about an axis: the place before of (index, row, col), counted from the middle.
ABOUT_INDEX = [[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]  # (index, -col, row)
ABOUT_ROW = [[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]  # (-col, row, index)
SMALL_TURN = [[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]  # 37 degrees about the axis of col


def a_draw(n: int = 1, **changes: Tensor | None) -> Draw:
    plain: dict[str, Any] = {
        "flips": torch.zeros(n, 3, dtype=torch.bool),
        "transpose": torch.zeros(n, dtype=torch.bool),
        "linear": torch.eye(3).repeat(n, 1, 1),
        "shift": torch.zeros(n, 3),
        "bend": None,
        "thickness": torch.ones(n),
        "phase": torch.zeros(n),
        "blur_sigma": torch.zeros(n),
        "gamma": torch.ones(n),
        "gain": torch.ones(n),
        "shift_hu": torch.zeros(n),
        "noise_sigma": torch.zeros(n),
        "grain": torch.zeros(n),
        "seed": torch.tensor(0),
    }
    return Draw(**{**plain, **changes})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(n: int = 1, shape: tuple[int, ...] = (8, 8, 8)) -> Tensor:
    """Every voxel has a value of its own."""
    return torch.arange(n * torch.tensor(shape).prod()).float().reshape(n, 1, *shape)


def one_voxel(place_irc: tuple[int, ...], shape: tuple[int, ...] = (6, 8, 8)) -> tuple[Tensor, Tensor]:
    """HU and labels of air with one bright voxel."""
    hu = torch.full((1, 1, *shape), -1000.0)
    hu[0, 0][place_irc] = 100.0
    return hu, (hu > 0).to(torch.uint8)


def blob(center_irc: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """HU above 0 in a soft ball of (1, 1, *SHAPE); its label is its inner part."""
    axes = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")
    squared = sum((axis - c) ** 2 for axis, c in zip(axes, center_irc, strict=True))
    hu = 1000 * torch.exp(-squared / (2 * 1.5**2))[None, None]
    return hu, (hu > 300).to(torch.uint8)


def center_of_mass(weight: Tensor) -> list[float]:
    axes = torch.meshgrid(*(torch.arange(n) for n in weight.shape), indexing="ij")
    return [float((axis * weight).sum() / weight.sum()) for axis in axes]


def lag_one(noise: Tensor) -> list[float]:
    """Correlation of neighbours along each of the three axes."""
    return [
        float((noise.narrow(a, 1, noise.shape[a] - 1) * noise.narrow(a, 0, noise.shape[a] - 1)).mean())
        / float(noise.var())
        for a in range(3)
    ]


def test_the_same_generator_gives_the_same_draw() -> None:
    one, two = (draw(4, Augmentation(elastic_mm=2), generator(3)) for _ in range(2))
    assert all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Draw))


def test_each_sample_has_a_draw_of_its_own() -> None:
    what = draw(64, Augmentation(resample=1), generator())
    assert len(what.noise_sigma.unique()) == len(what.linear.unique(dim=0)) == len(what.gain.unique()) == 64


def test_probabilities_are_those_asked_for() -> None:
    what = draw(2000, Augmentation(), generator())
    assert what.flips.float().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.04)
    assert what.transpose.float().mean().item() == pytest.approx(0.5, abs=0.04)
    for happens, probability in (
        (what.thickness > 1, 0.3), (what.blur_sigma > 0, 0.3), (what.gamma != 1, 0.2), (what.off_grid, 0.5),
    ):  # fmt: skip
        assert happens.float().mean().item() == pytest.approx(probability, abs=0.04)


def test_strengths_stay_within_those_asked_for() -> None:
    what = draw(2000, Augmentation(resample=1, rotation_degrees=10, scale=0.25, shift_mm=2), generator())
    size = torch.linalg.det(what.linear) ** (1 / 3)
    cosine = what.linear.diagonal(dim1=1, dim2=2).sum(1) / size / 2 - 0.5
    assert 0.79 < size.min() < 0.82
    assert 1.22 < size.max() < 1.26
    assert cosine.acos().rad2deg().max() < 10 * 3**0.5 + 0.1  # about all three axes at once
    assert 1.9 < what.shift.abs().max() <= 2
    assert set(what.thickness.tolist()) == {1, 2, 3, 4, 5}
    assert (what.phase < what.thickness).all()
    assert 0.79 < what.gamma.min() < what.gamma.max() < 1.26


def test_nothing_drawn_moves_voxels_but_leaves_them_as_they_are() -> None:
    hu = image(3)
    changed, _ = apply(hu, None, draw(3, NOTHING, generator()))
    assert torch.equal(changed.flatten(1).sort().values, hu.flatten(1))
    assert not torch.equal(changed, hu)


def test_flips_and_transpose_move_voxels_where_numpy_does() -> None:
    hu = image(2, (6, 8, 8))
    what = a_draw(
        2, flips=torch.tensor([[True, False, True], [False] * 3]), transpose=torch.tensor([True, False])
    )
    changed, labels = apply(hu.short(), (hu % 251).to(torch.uint8), what)
    assert torch.equal(changed[0], hu[0].flip(1, 3).mT)
    assert torch.equal(changed[1], hu[1])
    assert labels is not None
    assert torch.equal(labels, (changed % 251).to(torch.uint8))


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, (1, 2, 6)),
        ({"flips": [[True, False, False]]}, (4, 2, 6)),
        ({"flips": [[False, True, True]]}, (1, 5, 1)),
        ({"transpose": [True]}, (1, 6, 2)),
        ({"flips": [[False, True, False]], "transpose": [True]}, (1, 6, 5)),
        ({"linear": [ABOUT_INDEX]}, (1, 6, 5)),  # from the middle: (-1.5, -1.5, 2.5) to (-1.5, 2.5, 1.5)
        ({"linear": [ABOUT_ROW]}, (5, 2, 5)),  # to (2.5, -1.5, 1.5), though there are fewer slices than rows
        ({"shift": [[0.0, 1.0, -1.0]]}, (1, 1, 7)),
        ({"linear": [ABOUT_INDEX], "flips": [[False, True, False]]}, (1, 6, 2)),
    ],
)
def test_a_voxel_its_label_and_its_point_go_to_the_same_place(
    changes: dict[str, Any], after: tuple[int, ...]
) -> None:
    hu, labels = one_voxel((1, 2, 6))
    what = a_draw(**{name: torch.tensor(value) for name, value in changes.items()})
    changed, moved = apply(hu, labels, what)
    assert moved is not None
    assert changed[0, 0][after] == pytest.approx(100.0, abs=0.5)
    assert (changed > 0).sum() == 1
    assert (moved == 1).nonzero().tolist() == [[0, 0, *after]]
    points = move_points(torch.tensor([[[1.0, 2.0, 6.0]]]), what, (6, 8, 8))
    assert points[0, 0].tolist() == pytest.approx(after, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"linear": torch.tensor([SMALL_TURN])},
        {"linear": torch.eye(3)[None] / 1.25},
        {"shift": torch.tensor([[0.3, -0.4, 1.5]])},
        {
            "flips": torch.tensor([[True, True, False]]),
            "transpose": torch.tensor([True]),
            "linear": torch.tensor([SMALL_TURN]) * 1.1,
            "shift": torch.tensor([[0.3, -0.4, 1.5]]),
        },
    ],
    ids=["rotation", "scale", "shift", "all"],
)
def test_a_ball_its_label_and_its_centre_move_alike(changes: dict[str, Tensor]) -> None:
    center = (8.0, 13.0, 20.0)
    what = a_draw(**changes)
    hu, labels = apply(*blob(center), what)
    assert labels is not None
    wanted = move_points(torch.tensor([[center]]), what, SHAPE)[0, 0].tolist()
    assert center_of_mass(hu[0, 0]) == pytest.approx(wanted, abs=0.02)
    assert center_of_mass(labels[0, 0] == 1) == pytest.approx(wanted, abs=0.5)  # whole voxels


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_drawn_a_ball_and_its_label_go_where_the_point_goes(seed: int) -> None:
    how = Augmentation(thick_slices=0, noise_hu=5, resample=1, rotation_degrees=30, elastic_mm=3)
    what, center = draw(4, how, generator(seed)), (9.0, 14.0, 18.0)
    hu, labels = (one.repeat(4, 1, 1, 1, 1) for one in blob(center))
    changed, moved = apply(hu, labels, what)
    assert moved is not None
    wanted = move_points(torch.tensor([[center]]).repeat(4, 1, 1), what, SHAPE)[:, 0].tolist()
    for one, label, point in zip(changed, moved, wanted, strict=True):
        assert center_of_mass((one[0] - 100).clamp(min=0)) == pytest.approx(point, abs=0.4)
        assert center_of_mass(label[0] == 1) == pytest.approx(point, abs=0.5)


def test_points_follow_the_strongest_elastic_draw_to_a_thousandth_voxel() -> None:
    what = draw(8, Augmentation(resample=1, elastic_mm=4), generator())
    before = torch.rand(8, 50, 3, dtype=torch.float64, generator=generator()) * torch.tensor(SHAPE)
    after = move_points(before, what, SHAPE) - middle(SHAPE, torch.device("cpu"))
    matrix = what.matrix.double()
    assert what.bend is not None
    back = after @ matrix[:, :, :3].mT + matrix[:, None, :, 3] + bend_at(after, what.bend)
    torch.testing.assert_close(back + middle(SHAPE, torch.device("cpu")), before, atol=1e-3, rtol=0)


def test_half_a_voxel_gives_the_mean_of_neighbours_and_repeats_the_border() -> None:
    steps = torch.arange(8.0).square().expand(1, 1, 8, 8, 8)
    changed, _ = apply(steps, None, a_draw(shift=torch.tensor([[0.0, 0.0, 0.5]])))
    assert changed[0, 0, 3, 3].tolist() == pytest.approx(
        [0.5, 2.5, 6.5, 12.5, 20.5, 30.5, 42.5, 49], abs=0.01
    )


@pytest.mark.parametrize(("shift", "invented"), [(0.4, 0), (0.6, 1), (3.0, 3)])
def test_labels_are_unsure_where_the_patch_had_no_voxel(shift: float, invented: int) -> None:
    labels = torch.full((1, 1, 8, 8, 8), 7, dtype=torch.uint8)
    _, moved = apply(image(), labels, a_draw(shift=torch.tensor([[0.0, shift, 0.0]])))
    assert moved is not None
    assert moved[0, 0, 4, :, 4].tolist() == [7] * (8 - invented) + [255] * invented


def test_labels_stay_labels() -> None:
    labels = blob((8.0, 13.0, 20.0))[1] * 200
    _, moved = apply(image(1, SHAPE), labels, a_draw(linear=torch.tensor([SMALL_TURN])))
    assert moved is not None
    assert moved.unique().tolist() == [0, 200, 255]


def test_thick_slices_are_means_and_keep_what_changes_evenly() -> None:
    steps = torch.arange(8.0).reshape(1, 1, 8, 1, 1).repeat(1, 1, 1, 8, 8)
    thick, _ = apply(steps, None, a_draw(thickness=torch.tensor([2])))
    torch.testing.assert_close(thick[0, 0, 1:7, 0, 0], steps[0, 0, 1:7, 0, 0])
    assert thick[0, 0, 0, 0, 0] == 0.5  # the border has no slice before it


def test_thick_slices_may_begin_before_the_patch() -> None:
    peak = torch.zeros(1, 1, 8, 8, 8)
    peak[0, 0, 3] = 8
    thick, _ = apply(peak, None, a_draw(thickness=torch.tensor([2]), phase=torch.tensor([1])))
    # slices of voxels 0, 1-2, 3-4, 5-6, 7: the third is 4, and its middle is between voxels 3 and 4
    assert thick[0, 0, :, 0, 0].tolist() == pytest.approx([0, 0, 1, 3, 3, 1, 0, 0])


def test_blur_keeps_the_sum_and_lowers_the_peak() -> None:
    peak = torch.zeros(1, 1, 15, 15, 15)
    peak[0, 0, 7, 7, 7] = 1000
    blurred, _ = apply(peak, None, a_draw(blur_sigma=torch.tensor([0.8])))
    assert blurred.sum().item() == pytest.approx(1000, rel=1e-4)
    assert blurred.max() < 200


def test_gain_turns_about_air_and_shift_adds() -> None:
    hu = torch.tensor([-1000.0, 0.0]).reshape(1, 1, 1, 1, 2)
    out, _ = apply(hu, None, a_draw(gain=torch.tensor([1.1]), shift_hu=torch.tensor([5.0])))
    assert out.flatten().tolist() == pytest.approx([-995.0, 105.0])


def test_gamma_bends_the_middle_of_the_window_and_nothing_outside() -> None:
    hu = torch.tensor([-1024.0, -1000.0, -300.0, 400.0, 3000.0]).reshape(1, 1, 1, 1, 5)
    out, _ = apply(hu, None, a_draw(gamma=torch.tensor([2.0])))  # the middle, 1/2, becomes 1/4
    assert out.flatten().tolist() == pytest.approx([-1024.0, -1000.0, -650.0, 400.0, 3000.0], abs=1e-3)


@pytest.mark.parametrize("thickness", [1, 4])
@pytest.mark.parametrize("grain", [0.0, 0.5, 1.0])
def test_noise_has_the_deviation_drawn_at_the_border_too(grain: float, thickness: int) -> None:
    what = a_draw(
        2,
        noise_sigma=torch.tensor([0.0, 25.0]),
        grain=torch.full((2,), grain),
        thickness=torch.full((2,), thickness),
    )
    still, noise = apply(torch.zeros(2, 1, 48, 64, 64), None, what)[0]
    assert not still.any()
    assert noise.std().item() == pytest.approx(25, rel=0.03)
    assert noise[0, :, 0].std().item() == pytest.approx(25, rel=0.1)
    assert abs(noise.mean().item()) < 1


def test_noise_is_correlated_in_the_plane_and_less_along_the_scan() -> None:
    what = a_draw(noise_sigma=torch.tensor([10.0]), grain=torch.tensor([1.0]))
    noise = apply(torch.zeros(1, 1, 48, 64, 64), None, what)[0][0, 0]
    # exp(-1/4) of a kernel with sigma 1; of one with sigma 1/2, which is 1 and e**-2 beside it, about 0.26
    assert lag_one(noise) == pytest.approx([0.26, 0.78, 0.78], abs=0.02)


def test_noise_without_grain_is_white() -> None:
    noise = apply(torch.zeros(1, 1, 48, 64, 64), None, a_draw(noise_sigma=torch.tensor([10.0])))[0][0, 0]
    assert lag_one(noise) == pytest.approx([0, 0, 0], abs=0.02)


def test_noise_of_thick_slices_is_alike_within_them() -> None:
    what = a_draw(noise_sigma=torch.tensor([10.0]), thickness=torch.tensor([4]))
    noise = apply(torch.zeros(1, 1, 48, 64, 64), None, what)[0][0, 0]
    assert lag_one(noise)[0] > 0.8


def test_samples_have_noise_of_their_own() -> None:
    noise, _ = apply(torch.zeros(6, 1, 8, 8, 8), None, a_draw(6, noise_sigma=torch.ones(6)))
    assert torch.corrcoef(noise.flatten(1)).triu(1).abs().max() < 0.2


def test_the_same_draw_gives_the_same_batch_whatever_the_number_of_threads() -> None:
    hu = torch.randn(6, 1, 32, 32, 32, generator=generator()) * 300
    what = draw(6, Augmentation(blur=0.8, gamma=0.8, elastic_mm=2), generator())
    threads = torch.get_num_threads()
    results = []
    for n in (1, 2):
        torch.set_num_threads(n)
        results.append(apply(hu, None, what)[0])
    torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    hu = torch.randn(6, 1, 16, 16, 16, generator=generator())
    what = draw(6, Augmentation(noise_hu=0, elastic_mm=2), generator())
    one = Draw(
        **{f.name: getattr(what, f.name)[4:5] for f in fields(Draw) if f.name != "seed"}, seed=what.seed
    )
    torch.testing.assert_close(apply(hu[4:5], None, one)[0][0], apply(hu, None, what)[0][4])


def test_int16_comes_out_as_float32_and_the_input_stays_as_it_was() -> None:
    hu = image(4).short()
    before = hu.clone()
    changed, _ = apply(hu, None, draw(4, Augmentation(), generator()))
    assert changed.dtype == torch.float32
    assert torch.equal(hu, before)


def test_a_network_learns_from_the_result() -> None:
    layer = torch.nn.Conv3d(1, 1, 3)
    changed, _ = apply(image(2), None, draw(2, Augmentation(), generator()))
    layer(changed).sum().backward()
    assert layer.weight.grad is not None


def test_a_draw_for_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a draw for 3 samples does not fit a batch of 2"):
        apply(image(2), None, a_draw(3))


def test_rows_and_columns_of_different_number_cannot_change_places() -> None:
    with pytest.raises(ValueError, match="8 rows and 6 columns"):
        apply(torch.zeros(1, 1, 4, 8, 6), None, a_draw(transpose=torch.tensor([True])))


def test_the_parts_of_a_draw_are_those_of_the_whole() -> None:
    whole = draw(6, Augmentation(elastic_mm=1.0), generator())
    for rank in range(2):
        part = whole.part(rank, 2)
        for field in fields(Draw):
            if field.name != "seed":
                assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[rank::2])


def test_the_only_part_is_the_whole() -> None:
    whole = draw(2, Augmentation(), generator())
    assert whole.part(0, 1) is whole


def test_a_draw_without_bending_has_parts_without() -> None:
    assert draw(4, Augmentation(), generator()).part(1, 2).bend is None


def test_parts_have_noise_of_their_own() -> None:
    whole = a_draw(2, noise_sigma=torch.full((2,), 10.0))
    first, second = (apply(torch.zeros(1, 1, 8, 8, 8), None, whole.part(rank, 2))[0] for rank in range(2))
    assert not torch.equal(first, second)


def test_without_noise_the_parts_are_augmented_as_the_whole() -> None:
    how = Augmentation(noise_hu=0.0, elastic_mm=1.0)
    hu, whole = image(4, (16, 16, 16)), draw(4, how, generator())
    together, _ = apply(hu, None, whole)
    for rank in range(2):
        part, _ = apply(hu[rank::2], None, whole.part(rank, 2))
        torch.testing.assert_close(part, together[rank::2])
