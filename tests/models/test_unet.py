import pytest
import torch

from p2ch_luna.models.blocks import HuWindow, depth_to_space, space_to_depth
from p2ch_luna.models.unet import SegmentationUNet


@pytest.fixture(scope="module")
def unet() -> SegmentationUNet:
    torch.manual_seed(0)
    return SegmentationUNet(widths=(4, 8, 8, 8)).eval()


def test_depth_to_space_undoes_space_to_depth() -> None:
    x = torch.arange(2 * 4 * 6 * 8.0).reshape(2, 1, 4, 6, 8)
    assert torch.equal(depth_to_space(space_to_depth(x)), x)


def test_space_to_depth_keeps_a_block_of_voxels_together() -> None:
    x = torch.arange(4**3.0).reshape(1, 1, 4, 4, 4)
    # voxels (0..1, 0..1, 0..1): 16 a slice, 4 a row
    assert space_to_depth(x)[0, :, 0, 0, 0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]


def test_window_maps_its_bounds_to_zero_and_one_and_clips() -> None:
    out = HuWindow(-1000, 400)(torch.tensor([-2000.0, -1000.0, -300.0, 400.0, 3000.0]))
    assert out.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_window_travels_in_the_state(unet: SegmentationUNet) -> None:
    other = SegmentationUNet(widths=(4, 8, 8, 8), window_hu=(-500.0, 0.0))
    other.load_state_dict(unet.state_dict())
    assert other.window.low_high.tolist() == [-1000.0, 400.0]


def test_logits_have_the_shape_of_the_input(unet: SegmentationUNet) -> None:
    assert unet(torch.zeros(2, 1, 16, 32, 48)).shape == (2, 1, 16, 32, 48)


def test_a_fresh_network_says_almost_no_voxel_is_nodule() -> None:
    torch.manual_seed(0)
    logit = SegmentationUNet(widths=(4, 8, 8, 8)).eval()(torch.full((1, 1, 32, 32, 32), -800.0))
    assert logit.sigmoid().mean() < 0.05


def test_sides_that_do_not_fit_are_refused(unet: SegmentationUNet) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, got \(16, 24, 16\)"):
        unet(torch.zeros(1, 1, 16, 24, 16))


def test_every_parameter_gets_a_gradient() -> None:
    model = SegmentationUNet(widths=(4, 8, 8, 8))
    model(torch.randn(2, 1, 32, 32, 32) * 300).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
