"""In what precision and layout networks compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from p2ch_luna.errors import LunaError
from p2ch_luna.models import precision
from p2ch_luna.models.precision import Precision, autocast, check_precision, device_of, on_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def dtype_of(wanted: Precision) -> torch.dtype:
    """Of what a layer says under autocast on the CPU."""
    with autocast(CPU, wanted):
        return nn.Linear(2, 2)(torch.zeros(1, 2)).dtype  # type: ignore[no-any-return]


@pytest.mark.parametrize(("wanted", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_precision_is_kept(wanted: Precision, dtype: torch.dtype) -> None:
    assert dtype_of(wanted) == dtype


@pytest.mark.parametrize(("is_fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_is_fast_in_bf16", lambda _: is_fast)
    assert dtype_of("auto") == dtype


def test_fp16_is_refused_on_the_cpu() -> None:
    with pytest.raises(
        LunaError, match=r"compute.precision = 'fp16' on cpu: .*wanted auto, bf16 or fp32, or a CUDA"
    ):
        check_precision(CPU, "fp16")


@pytest.mark.parametrize("wanted", ["auto", "bf16", "fp32"])
def test_other_precisions_train_on_the_cpu(wanted: Precision) -> None:
    check_precision(CPU, wanted)


def test_fp16_trains_on_cuda() -> None:
    check_precision(CUDA, "fp16")


@pytest.mark.parametrize("channels_last", [True, False])
def test_weights_are_laid_out_as_asked(channels_last: bool) -> None:
    model = on_device(nn.Conv3d(2, 4, 3), CPU, channels_last=channels_last)
    assert model.weight.is_contiguous(memory_format=torch.channels_last_3d) == channels_last


def test_the_layout_changes_no_value() -> None:
    model = nn.Conv3d(2, 4, 3)
    before = model.weight.detach().clone()
    assert torch.equal(on_device(model, CPU).weight, before)


@pytest.mark.parametrize(
    ("asked", "gpus", "found"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
        ("cpu:0", 0, "cpu:0"),
    ],
)
def test_a_name_stands_for_a_device(
    asked: str, gpus: int, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert str(device_of(asked)) == found


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("cuda:1", "device cuda:1: torch .* finds none here; there is cpu, cuda:0$"),
        ("cuda:", "device cuda:: wanted auto"),
        ("gpu", "device gpu: wanted auto, cpu, cuda, mps, or a numbered one such as cuda:1"),
        ("cuda:x", "device cuda:x: wanted auto"),
    ],
)
def test_a_device_that_is_not_there_is_told(
    asked: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(LunaError, match=f"^{complaint}"):
        device_of(asked)


def test_a_gpu_whose_driver_is_too_old_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == CPU
    with pytest.raises(LunaError, match=r"^device cuda: torch .* finds none here; there is cpu$"):
        device_of("cuda")
