"""Checkpoints: written whole, read back exactly, and named where they are of no use."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.errors import LunaError
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.state import State, load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def make_state(width: int = 2, *, average: bool = True) -> State:
    model = nn.Sequential(nn.Linear(1, width), nn.BatchNorm1d(width))
    optimizer = make_optimizer(model, 0.1, 0.01)
    kept = nn.Sequential(nn.Linear(1, width), nn.BatchNorm1d(width)) if average else None
    schedule = warmup_cosine(optimizer, 2, 10)
    return State(model, kept, optimizer, schedule, GradScaler("cpu", enabled=False))


def step(state: State, n: int = 1) -> None:
    for _ in range(n):
        state.model(torch.tensor([[1.0], [3.0]])).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.scheduler.step()


def weights(state: State) -> list[torch.Tensor]:
    return [value.clone() for value in state.model.state_dict().values()]


def test_a_checkpoint_goes_on_exactly(tmp_path: Path) -> None:
    whole = make_state()
    step(whole, 3)
    whole.save(tmp_path / "last.pt")
    step(whole, 3)
    resumed = make_state()
    resumed.load(tmp_path / "last.pt", CPU)
    step(resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert whole.scheduler.get_last_lr() == resumed.scheduler.get_last_lr()


def test_all_numbers_of_a_state_read_back(tmp_path: Path) -> None:
    numbers = {
        "epoch": 2, "step": 7, "step_in_epoch": 1, "best": 0.5, "best_epoch": 1, "seconds": 1.5,
        "sums": {"dice": 1 / 3}, "history": [{"epoch": 1, "metrics": {"dice": float("nan")}}],
    }  # fmt: skip
    state, other = make_state(), make_state()
    for name, value in numbers.items():
        setattr(state, name, value)
    state.save(tmp_path / "last.pt")
    other.load(tmp_path / "last.pt", CPU)
    assert str({name: getattr(other, name) for name in numbers}) == str(numbers)  # NaN is not itself


def test_the_average_reads_back(tmp_path: Path) -> None:
    state, other = make_state(), make_state()
    assert state.average is not None
    nn.init.constant_(state.average[0].weight, 7.0)
    state.save(tmp_path / "last.pt")
    other.load(tmp_path / "last.pt", CPU)
    assert other.average is not None
    assert other.average[0].weight.flatten().tolist() == [7.0, 7.0]


def test_the_average_is_what_is_judged() -> None:
    state = make_state()
    assert state.judged is state.average


def test_without_an_average_the_model_is_judged() -> None:
    state = make_state(average=False)
    assert state.judged is state.model


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"epoch": 3})
    assert load_checkpoint(tmp_path / "last.pt", CPU) == {"epoch": 3}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named(tmp_path: Path, share: float) -> None:
    state, path = make_state(), tmp_path / "last.pt"
    state.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(LunaError, match=r"last.pt: cut short or not a checkpoint: \S"):
        state.load(path, CPU)


@pytest.mark.parametrize(
    "content",
    [
        b"some text\n",
        b"hello world",
        b"epoch = 3\n",
        pickle.dumps(Path("a"), protocol=2),
        bytes(range(256)),
        b"M",
    ],
    ids=["text", "words", "toml", "an object", "bytes", "a byte"],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(LunaError, match=r"last.pt: cut short or not a checkpoint: \w"):
        load_checkpoint(tmp_path / "last.pt", CPU)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"last.pt: no such file; wanted a checkpoint of `luna train`"):
        load_checkpoint(tmp_path / "last.pt", CPU)


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    make_state(width=3).save(tmp_path / "last.pt")
    with pytest.raises(LunaError, match=r"last.pt: not a checkpoint of this network: .*0\.weight"):
        make_state(width=2).load(tmp_path / "last.pt", CPU)


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, [1, 2], {"model": 7}], ids=["numbers", "a list", "no model"]
)
def test_a_checkpoint_of_something_else_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(LunaError, match=r"last.pt: not a checkpoint of this network: \S"):
        make_state().load(tmp_path / "last.pt", CPU)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    state, path = make_state(), tmp_path / "last.pt"
    state.save(path)
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(number, "no room")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LunaError, match=r"last.pt: cannot be written: no room"):
        state.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from p2ch_luna.training.state import save_checkpoint
path = Path(sys.argv[1])
save_checkpoint(path, {"epoch": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
save_checkpoint(path, {"weights": torch.zeros(1 << 20)})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
def test_a_file_that_may_not_grow_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert load_checkpoint(path, CPU) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
