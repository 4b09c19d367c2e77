"""Real processes that gloo joins: `in_world.py` says what each of them does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

DRIVER = Path(__file__).with_name("in_world.py")
KINDS = ("segmentation", "classifier")
SECONDS = 120

Found = list[Mapping[str, Any]]  # of each process, by rank


def run_world(size: int, folder: Path) -> Found:
    """What `size` processes leave."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(DRIVER), str(folder)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(size)
    ]
    try:
        assert [process.wait(SECONDS) for process in processes] == [0] * size
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return run_world(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run_world(request.param, tmp_path_factory.mktemp("world"))


def test_a_sum_is_over_all_processes_and_keeps_type_and_shape(found: Found) -> None:
    size = len(found)
    of_ranks = size * (size - 1) // 2
    for of_rank in found:
        assert of_rank["sum"]["a"] == of_ranks + size
        torch.testing.assert_close(
            of_rank["sum"]["b"], torch.tensor([[of_ranks, size * 10**9 + of_ranks]]), rtol=0, atol=0
        )


def test_all_gather_what_each_holds_by_rank(found: Found) -> None:
    assert all(of_rank["gather"] == [{"rank": rank} for rank in range(len(found))] for of_rank in found)


def test_what_was_dealt_comes_back_in_its_order_though_shares_differ(found: Found) -> None:
    assert all(of_rank["deal"] == [0, 1, 2, 3, 4, 5, 6] for of_rank in found)


def test_all_have_what_the_first_process_holds(found: Found) -> None:
    assert [of_rank["from_main"] for of_rank in found] == ["of 0"] * len(found)


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_batch_is_that_of_one_process(
    found: Found, alone: Mapping[str, Any], kind: str, pieces: int
) -> None:
    wanted = alone[f"{kind} 1"]["gradient"]
    largest = max(float(tensor.abs().max()) for tensor in wanted)
    assert largest > 0.01
    for of_rank in found:
        for own, of_one in zip(of_rank[f"{kind} {pieces}"]["gradient"], wanted, strict=True):
            torch.testing.assert_close(own, of_one, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_pieces_is_that_of_the_batch(alone: Mapping[str, Any], kind: str) -> None:
    whole, pieces = (alone[f"{kind} {n}"]["gradient"] for n in (1, 2))
    for of_pieces, of_whole in zip(pieces, whole, strict=True):
        torch.testing.assert_close(of_pieces, of_whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_of_the_loss_add_up_to_that_of_one_process(
    found: Found, alone: Mapping[str, Any], kind: str
) -> None:
    wanted = alone[f"{kind} 1"]["loss"]
    for of_rank in found:
        torch.testing.assert_close(of_rank[f"{kind} 1"]["loss"], wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_after_some_steps_all_hold_the_same_weights(found: Found, kind: str) -> None:
    first, *others = (of_rank[f"{kind} weights"] for of_rank in found)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_the_steps_have_changed_the_weights(found: Found, alone: Mapping[str, Any]) -> None:
    """Else the test above says nothing; batch norm sees other batches alone, so the weights differ."""
    name = "stem.first.0.weight"
    assert not torch.equal(found[0]["segmentation weights"][name], alone["segmentation weights"][name])
