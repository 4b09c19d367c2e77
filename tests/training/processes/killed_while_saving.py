"""Kills a process that writes checkpoints, again and again: `python killed_while_saving.py FOLDER KILLS`.

Prints how many kills have left a part of a file; fails where a checkpoint does not load, or is older than
one that was there before.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.state import State

WIDTH = 1000  # of a layer: 4 MB
CPU = torch.device("cpu")


def make_state() -> State:
    model = nn.Linear(WIDTH, WIDTH)
    optimizer = make_optimizer(model, 1e-3, 0.0)
    return State(model, None, optimizer, warmup_cosine(optimizer, 0, 10), GradScaler("cpu", enabled=False))


def save_for_ever(path: Path, state: State) -> None:
    """Each checkpoint is of one more step, and its weights are that number."""
    while True:
        state.step += 1
        nn.init.constant_(state.model.weight, state.step)  # type: ignore[arg-type]
        state.save(path)


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    path, state, rng = folder / "last.pt", make_state(), random.Random(0)
    state.save(path)
    for _ in range(kills):
        writer = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(path, state))
        before = state.step
        writer.start()
        time.sleep(rng.uniform(0.05, 0.2))
        writer.kill()
        writer.join()
        state.load(path, CPU)
        assert state.step > before, (state.step, before)
        assert bool((state.model.weight == state.step).all())
    print(len(list(folder.glob(".*"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
