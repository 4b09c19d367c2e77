"""The devices that a test runs on: the CPU always, a GPU where there is one."""

import pytest
import torch

CPU = torch.device("cpu")
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


def there(name: str) -> torch.device:
    """The device; skips the test without one."""
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(name)
