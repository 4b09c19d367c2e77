"""How the processors and GPUs of a Ray cluster are shared out; Ray itself is not needed."""

from __future__ import annotations

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.many.on_ray import Machine, Shares, shares_of

TWO = [Machine(8), Machine(4)]


@pytest.mark.parametrize(
    ("n_tasks", "workers", "threads", "expected"),
    [
        (100, None, None, Shares(12, 1, 0)),
        (2, None, None, Shares(2, 4, 0)),  # 8 would leave no room on the second
        (1, None, None, Shares(1, 8, 0)),
        (100, 3, None, Shares(3, 4, 0)),
        (100, 50, None, Shares(12, 1, 0)),  # more would wait for ever
        (100, None, 4, Shares(3, 4, 0)),
        (100, None, 64, Shares(1, 8, 0)),
    ],
)
def test_all_actors_find_room_and_none_is_idle(
    n_tasks: int, workers: int | None, threads: int | None, expected: Shares
) -> None:
    assert shares_of(TWO, n_tasks, workers, threads, on_gpu=False) == expected


def test_each_gpu_has_one_actor_with_all_its_processors() -> None:
    machines = [Machine(8, 2), Machine(8, 0), Machine(16, 1)]
    assert shares_of(machines, 100, None, None, on_gpu=True) == Shares(3, 4, 1)


def test_a_cluster_without_the_gpu_that_is_needed_is_told() -> None:
    with pytest.raises(LunaError, match="no GPU; wanted one, or the device cpu"):
        shares_of(TWO, 100, None, None, on_gpu=True)
