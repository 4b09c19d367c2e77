"""What is said of processors, memory, GPUs and the precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2ch_luna.report.doctor import Remark, machine


@pytest.mark.parametrize(("threads", "quota", "chosen"), [(4, None, None), (4, 4.0, None), (4, None, "4")])
def test_a_thread_a_processor_is_well(threads: int, quota: float | None, chosen: str | None) -> None:
    assert machine.on_threads(threads, 4, quota, chosen).state == "ok"


def test_more_threads_than_processors_are_told() -> None:
    assert machine.on_threads(8, 4, None, None).advice == "give --threads 4"


def test_more_threads_than_a_container_has_time_for_are_told() -> None:
    assert machine.on_threads(8, 8, 1.5, None).advice == "give --threads 1"


def test_less_than_a_processor_is_one_thread() -> None:
    assert machine.on_threads(1, 8, 0.5, None).state == "ok"


def test_idle_processors_are_told() -> None:
    remark = machine.on_threads(1, 4, None, "1")
    assert remark.state == "note"
    assert "OMP_NUM_THREADS=1" in remark.found


@pytest.mark.parametrize(
    ("content", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("?\n", None)]
)
def test_the_limit_of_a_container_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, quota: float | None
) -> None:
    (tmp_path / "cpu.max").write_text(content, "utf-8")
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "absent")
    assert machine.cpu_quota() == quota


@pytest.mark.parametrize(("content", "quota"), [("50000\n", 0.5), ("-1\n", None)])
def test_the_limit_of_an_older_container_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, quota: float | None
) -> None:
    (tmp_path / "quota").write_text(content, "utf-8")
    (tmp_path / "period").write_text("100000\n", "utf-8")
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "absent")
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "quota")
    monkeypatch.setattr(machine, "CPU_PERIOD", tmp_path / "period")
    assert machine.cpu_quota() == quota


def test_little_memory_is_told() -> None:
    assert machine.on_memory(2 << 30, None).state == "note"


def test_memory_that_others_use_is_told() -> None:
    remark = machine.on_memory(16 << 30, 1 << 30)
    assert remark.state == "note"
    assert "16.0 GiB, 1.0 GiB of it available" in remark.found


def test_a_container_has_no_more_than_its_limit() -> None:
    assert machine.on_memory(8 << 30, 100 << 30).found == "8.0 GiB, 8.0 GiB of it available"


def test_available_memory_that_is_not_told_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "absent")
    assert machine.available_bytes() is None


@pytest.mark.parametrize(
    ("build", "has_driver", "state", "what"),
    [
        (None, False, "ok", "none: the CPU computes"),
        (None, True, "note", "built without CUDA"),
        ("12.8", False, "note", "no NVIDIA driver"),
        ("12.8", True, "note", "torch finds no GPU: too old"),
    ],
)
def test_why_there_is_no_gpu_is_told(build: str | None, has_driver: bool, state: str, what: str) -> None:
    remark = machine.without_gpu(build, has_driver=has_driver, said=["too old"])
    assert remark.state == state
    assert what in remark.found


def test_a_gpu_that_does_not_compute_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    gpu: Remark = list(machine.devices())[-1]
    assert gpu.state == "problem"
    assert gpu.found.endswith("CUDA error: no kernel image is available")
    assert "--device cpu" in gpu.advice


@pytest.mark.parametrize(("is_fast", "state"), [(True, "ok"), (False, "note")])
def test_whether_bf16_is_fast_is_what_the_networks_go_by(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, state: str
) -> None:
    monkeypatch.setattr("p2ch_luna.models.precision._is_fast_in_bf16", lambda _: is_fast)
    (remark,) = machine.precision()
    assert remark.state == state
