import pytest
import torch
from torch import nn

from p2ch_luna.models.blocks import Conv3x3x3


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradients_in_bfloat16_are_those_of_float32(depth: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, depth, 6, 6, generator=generator)
    conv = Conv3x3x3(8, 8)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = conv(x)
        (out.float() ** 2).mean().backward()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.clone())
    scale = gradients[0].abs().max().item()
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.02 * scale, rtol=0)


def test_two_slices_are_convolved_as_by_torch() -> None:
    conv = Conv3x3x3(3, 5)
    plain = nn.Conv3d(3, 5, 3, padding=1, bias=False)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(1, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(conv(x), plain(x))
