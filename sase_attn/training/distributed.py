"""The processes of one run: started by `torchrun`, which sets RANK, WORLD_SIZE and LOCAL_RANK, or alone.

gloo on CPU, nccl on CUDA. Every rank takes a slice of the same global batch, so that a run of two ranks is the run of
one, up to the order of summation; batch norm sees only its rank's slice, unless it is synchronised (`sync_bn`).
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
    """Another process of the run has failed, and says why."""


@dataclass(frozen=True)
class Ranks:
    """This process among all: its rank (0 writes the files), how many there are, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def on_main(self, echo: Callable[[str], object]) -> Callable[[str], object]:
        """The callback on the main process; elsewhere one that drops its lines."""
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
        """The sum of a tensor over all ranks, on every rank and where the tensor is."""
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
        """The value that the main process has, on every rank; what the others bring is dropped."""
        if self.world_size == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, device=self.device)
        return shared[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks on the main process, in the order of ranks; on the others none."""
        if self.world_size == 1:
            return [value]
        values: list[T] = [value] * (self.world_size if self.is_main else 0)
        dist.gather_object(value, values or None)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """What every rank does, or none: where one raises an error, the others raise OtherRankError."""
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        if self.sum(float(error is not None))[0]:
            raise error or OtherRankError("another process of this run has failed; it says why")

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def ranks(device: str | None = None) -> Iterator[Ranks]:
    """Join the processes of `torchrun`, or be the only one; leave the group at the end.

    Args:
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device, one a local rank.

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
    except Exception:  # backends have many for what is not built in or not there
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
