import pytest
import torch

from support.devices import CUDA, there


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    """What a CPU can do too is tested there as well, so that these tests are known to run."""
    return there(request.param)


@pytest.fixture
def cuda() -> torch.device:
    return there("cuda")
