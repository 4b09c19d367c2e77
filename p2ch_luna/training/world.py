"""The processes of one training, as `torchrun` starts them: what they add up, gather and stop together."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from p2ch_luna.errors import LunaError

PATIENCE = timedelta(hours=1)  # of the others, while the first process prepares scans
_LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "process group")


@dataclass(frozen=True)
class World:
    """One process among `size`; alone, everything here costs nothing."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor summed over the processes, in one message; float64 on the way, its own type after."""
        if self.size == 1:
            return dict(values)
        flat = torch.cat([value.detach().double().reshape(-1) for value in values.values()])
        dist.all_reduce(flat)
        pieces = torch.split(flat, [value.numel() for value in values.values()])
        return {
            name: piece.reshape(value.shape).to(value.dtype)
            for (name, value), piece in zip(values.items(), pieces, strict=True)
        }

    def gather(self, value: Any) -> list[Any]:
        """What every process holds, by rank; any picklable value."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def deal(self, values: list[Any], total: int) -> list[Any]:
        """Invert a dealing by rank: `values` are those of this process, [rank::size] of `total`."""
        found: list[Any] = [None] * total
        for rank, part in enumerate(self.gather(values)):
            found[rank :: self.size] = part
        return found

    def from_main(self, value: Any) -> Any:
        """What the first process holds."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give all the first process's batch norm statistics: each has those of its own part of a batch."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            dist.barrier()

    def network(self, model: nn.Module) -> nn.Module:
        """The model as it is trained: its gradients are those of all processes."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Join the processes that `torchrun` has started; without it this is the only one.

    On CUDA each process of a host gets a GPU of its own and NCCL joins them, elsewhere gloo does. Raises
    LunaError for a process without a GPU, and in place of what a library says when another process is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        device = _own_gpu(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(device, rank, size)
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _LOST):
            reason = str(error).strip().splitlines()[0]
            raise LunaError(
                f"process {rank}: the way to the other processes is lost: if one has stopped, its message "
                f"tells why ({reason})"
            ) from error
        raise
    # Not after a failure: NCCL would wait for the others. A process that leaves while another still sends,
    # or with a DistributedDataParallel in its garbage, may abort at its exit.
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


def _own_gpu(local_rank: int) -> torch.device:
    there = torch.cuda.device_count()
    if local_rank >= there:
        raise LunaError(
            f"process {local_rank} of this host has no GPU: there are {there}; "
            f"wanted torchrun --nproc-per-node {there}, or --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
