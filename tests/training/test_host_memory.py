"""Memory of freed tensors, which is kept to be used again."""

import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from p2ch_luna.training.host_memory import keep_freed_memory
print(keep_freed_memory() if {keeps} else False)
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2_000_000) for _ in range(12)]  # 96 MB, in pieces of 8
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keeps: bool) -> int:
    """Pages that the system hands out in ten rounds of tensors."""
    code = [sys.executable, "-c", FAULTS.format(keeps=keeps)]
    done, count = subprocess.run(code, check=True, capture_output=True, text=True).stdout.split()
    if keeps and done == "False":
        pytest.skip("the C library is not glibc")
    return int(count)


def test_tensors_are_made_in_the_memory_of_those_freed() -> None:
    pages = 10 * 12 * 8_000_000 / resource.getpagesize()  # of all tensors of these rounds
    assert faults(keeps=True) < 0.1 * pages
