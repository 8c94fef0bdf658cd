"""The processes of one run: started by `torchrun`, which sets RANK, WORLD_SIZE and LOCAL_RANK, or alone.

The backend is gloo on the CPU, nccl on CUDA. Every rank gets a slice of the same global batch, so that two ranks
compute the same as one, up to the order of summation. But batch norm sees only its rank's slice, unless it is
synchronised (`sync_bn`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class OtherRankError(RuntimeError):
    """Another process of the run has failed, and reports why."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process (rank 0 writes the files), the number of processes, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def on_main(self, echo: Callable[[str], object]) -> Callable[[str], object]:
        """The callback on the main process; on the others, one that ignores lines."""
        return echo if self.is_main else lambda line: None

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError unless a batch can be divided evenly among the processes."""
        if batch_size % self.world_size:
            raise ValueError(f"batch_size: wanted a multiple of {self.world_size} processes, got {batch_size}")

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch's generator for a step, so that what dropout draws is a function of seed, step and rank."""
        torch.manual_seed(seed * 1_000_003 + step * self.world_size + self.rank)

    def sum(self, *values: float) -> list[float]:
        """Sums over all ranks, in float64; every rank gets them."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on every rank and on the device of the tensor."""
        if self.world_size == 1:
            return tensor
        total = tensor.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all ranks, in one exchange."""
        if self.world_size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        with torch.no_grad():
            for tensor, value in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(value.view_as(tensor))

    def share(self, value: T) -> T:
        """The value of the main process, on every rank; those of the others are ignored."""
        if self.world_size == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, device=self.device)
        return shared[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks on the main process, in the order of ranks; an empty list on the others."""
        if self.world_size == 1:
            return [value]
        values: list[T] = [value] * (self.world_size if self.is_main else 0)
        dist.gather_object(value, values or None)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context in which all ranks succeed or all fail: if one raises an error, the others raise OtherRankError."""
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        if self.sum(float(error is not None))[0]:
            raise error or OtherRankError("another process of this run has failed; it says why")

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def ranks(device: str | None = None) -> Iterator[Ranks]:
    """A context in which this process is one of those of `torchrun`, or the only one.

    Args:
        device: "cpu", "cuda" or "cuda:1"; by default CUDA if available, with one device for each local rank.

    Raises:
        ValueError: the device does not exist here.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    joined = world_size > 1 and not dist.is_initialized()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if joined:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank() if world_size > 1 else 0, world_size, chosen)
    finally:
        if joined:
            dist.destroy_process_group()


def _works(device: torch.device) -> bool:
    try:
        return bool((torch.ones(1, device=device) == 1).item())
    except Exception:  # backends that are missing, or not built in, raise errors of many types
        return False


def _device(name: str | None, local_rank: int) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}: wanted cpu, cuda or cuda:N") from None
    if device.type != "cuda":
        if device.type == "meta" or not _works(device):
            raise ValueError(f"device {name!r} does not compute here: wanted cpu, cuda or cuda:N")
        return device
    device = torch.device("cuda", local_rank if device.index is None else device.index)
    assert device.index is not None
    if device.index >= torch.cuda.device_count():
        raise ValueError(f"no device {device}: wanted one of {torch.cuda.device_count()} CUDA devices here")
    return device
