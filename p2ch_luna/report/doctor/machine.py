"""What computes: processors, memory, threads, GPUs and the precision."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from p2ch_luna.report.doctor.remark import Remark, gib

DRIVER = Path("/proc/driver/nvidia/version")  # is there where NVIDIA's driver is loaded
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of the control group: "QUOTA PERIOD" or "max PERIOD"; version 2
CPU_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # the same of version 1; below 0: none
CPU_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
MEMINFO = Path("/proc/meminfo")


def resources() -> Iterator[Remark]:
    """Processors, threads and memory."""
    import torch

    from p2ch_luna.report.many.engines import memory_bytes, processors

    usable, quota = processors(), cpu_quota()
    yield Remark("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield on_threads(torch.get_num_threads(), usable, quota, os.environ.get("OMP_NUM_THREADS"))
    yield on_memory(memory_bytes(), available_bytes())


def on_threads(threads: int, usable: int, quota: float | None, chosen: str | None) -> Remark:
    """Whether there are as many threads as processors for them.

    quota: processors' worth of time that the control group has; None: all.
    chosen: the value of OMP_NUM_THREADS.
    """
    limit = "" if quota is None else f", time of {quota:g}"
    found = f"{threads} threads on {usable} of {os.cpu_count()} processors{limit}"
    worth = max(1, int(min(usable, usable if quota is None else quota)))
    if threads > worth:
        return Remark("threads", "note", f"{found}: they wait for each other", f"give --threads {worth}")
    if chosen is not None and threads < worth:
        found = f"{found}, by OMP_NUM_THREADS={chosen}"
        return Remark("threads", "note", found, f"unset it, or give --threads {worth}, to be faster")
    return Remark("threads", "ok", found)


def on_memory(total: int, available: int | None) -> Remark:
    """Whether the longest scans fit."""
    from p2ch_luna.report.many.engines import WORKER_BYTES

    free = total if available is None else min(total, available)
    found = gib(total) if available is None else f"{gib(total)}, {gib(free)} of it available"
    if free < WORKER_BYTES:
        found = f"{found}: the longest scans need {gib(WORKER_BYTES)}"
        return Remark("memory", "note", found, "end other programs, or raise the limit of the container")
    return Remark("memory", "ok", found)


def cpu_quota() -> float | None:
    """How many processors' time the control group may have; None: no limit that can be seen."""
    with suppress(OSError, ValueError):
        quota, period = CPU_LIMIT.read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        used = int(CPU_QUOTA.read_text(encoding="utf-8"))
        return None if used < 0 else used / int(CPU_PERIOD.read_text(encoding="utf-8"))
    return None


def available_bytes() -> int | None:
    """Memory that nobody uses; None where the system does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return None


def devices() -> Iterator[Remark]:
    """The CPU, and a GPU or why there is none. `luna` takes a CUDA device where torch finds one."""
    import torch

    yield Remark("cpu", "ok", f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if is_there:
        yield _on_cuda()
    elif torch.backends.mps.is_available():
        yield Remark("gpu", "ok", "Apple's: luna diagnose --device mps")
    else:
        build = torch.version.cuda or torch.version.hip
        yield without_gpu(build, has_driver=DRIVER.exists(), said=[str(one.message) for one in said])


def _on_cuda() -> Remark:
    """Whether the GPU that is taken by default computes."""
    import torch

    try:
        torch.ones(8, device="cuda").sum().item()
        free, total = torch.cuda.mem_get_info()
    except RuntimeError as error:  # of another generation than torch was built for, or full
        first = str(error).partition("\n")[0]
        found = f"torch finds it, but it does not compute: {first}"
        return Remark("gpu", "problem", found, "give --device cpu, or install a torch that fits the driver")
    found = f"{torch.cuda.get_device_name()}, {gib(free)} of {gib(total)} free"
    return Remark("gpu", "ok", f"{found}; torch of CUDA {torch.version.cuda}")


def without_gpu(build: str | None, *, has_driver: bool, said: list[str]) -> Remark:
    """Why torch finds none. build: of CUDA, that torch was built with; said: its warnings."""
    if has_driver and build is None:
        found = "NVIDIA's driver is there, but this torch was built without CUDA"
        return Remark("gpu", "note", found, "https://pytorch.org/get-started/locally says which to install")
    if has_driver:
        found = f"NVIDIA's driver is there, but torch finds no GPU{': ' if said else ''}{' '.join(said)}"
        return Remark("gpu", "note", found, "see that nvidia-smi lists it; in a container: --gpus all")
    if build is not None:
        found = f"torch has CUDA {build}, but no NVIDIA driver is there: the CPU computes"
        return Remark("gpu", "note", found, "nothing without such a GPU; with one, install its driver")
    return Remark("gpu", "ok", "none: the CPU computes")


def _cpu_name() -> str:
    """As its maker calls it."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    return platform.processor() or platform.machine()


def precision() -> Iterator[Remark]:
    """Whether bfloat16 is fast on the device that `luna` takes by default."""
    import torch

    from p2ch_luna.models.precision import autocast

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with autocast(device):
        is_fast = torch.is_autocast_enabled(device.type)
    if is_fast:
        yield Remark("bf16", "ok", f"fast on {device.type}, and used")
    else:
        found = f"not fast on {device.type}: float32 is used, with the same findings"
        yield Remark("bf16", "note", found, "nothing; a CPU with AVX-512 or a GPU is about twice as fast")
