import pytest
import torch

from p2ch_luna.datasets.augment import Augmentation, Draw, degrade, draw, turn

NOTHING = Augmentation(thick_slices=0, blur=0, noise_hu=0, gain=0, shift_hu=0)


def a_draw(n: int = 1, **changes: torch.Tensor) -> Draw:
    plain = {
        "flips": torch.zeros(n, 3, dtype=torch.bool),
        "transpose": torch.zeros(n, dtype=torch.bool),
        "thickness": torch.ones(n),
        "blur_sigma": torch.zeros(n),
        "noise_sigma": torch.zeros(n),
        "gain": torch.ones(n),
        "shift": torch.zeros(n),
        "seed": torch.tensor(0),
    }
    return Draw(**{**plain, **changes})


def image(n: int = 1) -> torch.Tensor:
    return torch.arange(n * 8**3, dtype=torch.float32).reshape(n, 1, 8, 8, 8)


def test_the_same_generator_gives_the_same_draw() -> None:
    one, two = (draw(4, Augmentation(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.flips, two.flips)
    assert torch.equal(one.noise_sigma, two.noise_sigma)


def test_each_sample_has_a_draw_of_its_own() -> None:
    what = draw(64, Augmentation(), torch.Generator().manual_seed(0))
    assert len(what.noise_sigma.unique()) == 64
    assert what.flips.float().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.2)
    assert (what.thickness > 1).float().mean() == pytest.approx(0.3, abs=0.15)


def test_a_point_goes_where_the_flips_send_it() -> None:
    mask = torch.zeros(2, 1, 8, 8, 8)
    mask[:, 0, 1, 2, 3] = 1
    turned = turn(mask, a_draw(2, flips=torch.tensor([[True, False, True], [False, False, False]])))
    assert turned[0].nonzero().tolist() == [[0, 6, 2, 4]]
    assert turned[1].nonzero().tolist() == [[0, 1, 2, 3]]


def test_a_transpose_swaps_rows_and_columns() -> None:
    mask = torch.zeros(1, 1, 8, 8, 8)
    mask[0, 0, 1, 2, 3] = 1
    assert turn(mask, a_draw(transpose=torch.tensor([True]))).nonzero().tolist() == [[0, 0, 1, 3, 2]]


def test_nothing_drawn_changes_nothing() -> None:
    what = draw(2, NOTHING, torch.Generator().manual_seed(0))
    torch.testing.assert_close(degrade(image(2), what), image(2))


def test_thick_slices_are_means_and_keep_what_changes_evenly() -> None:
    steps = torch.arange(8.0).reshape(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    thick = degrade(steps, a_draw(thickness=torch.tensor([2])))
    torch.testing.assert_close(thick[0, 0, 1:7, 0, 0], steps[0, 0, 1:7, 0, 0])
    assert thick[0, 0, 0, 0, 0] == 0.5  # the border has no slice before it


def test_blur_keeps_the_sum_and_lowers_the_peak() -> None:
    peak = torch.zeros(1, 1, 15, 15, 15)
    peak[0, 0, 7, 7, 7] = 1000
    blurred = degrade(peak, a_draw(blur_sigma=torch.tensor([0.8])))
    assert blurred.sum().item() == pytest.approx(1000, rel=1e-4)
    assert blurred.max() < 200


def test_gain_turns_about_air_and_shift_adds() -> None:
    hu = torch.tensor([-1000.0, 0.0]).reshape(1, 1, 1, 1, 2)
    out = degrade(hu, a_draw(gain=torch.tensor([1.1]), shift=torch.tensor([5.0])))
    assert out.flatten().tolist() == pytest.approx([-995.0, 105.0])


def test_noise_has_the_deviation_drawn() -> None:
    out = degrade(torch.zeros(1, 1, 32, 32, 32), a_draw(noise_sigma=torch.tensor([25.0])))
    assert out.std().item() == pytest.approx(25, rel=0.03)
    assert abs(out.mean().item()) < 1
