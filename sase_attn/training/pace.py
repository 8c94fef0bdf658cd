"""How fast a run goes: images a second, time left and memory, and a progress bar on terminals."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")


class Pace:
    """Images a second, time left and peak memory, since this process started training."""

    def __init__(self, device: torch.device, steps_left: int) -> None:
        self._device, self._steps_left, self._steps, self._images = device, steps_left, 0, 0
        self._start = time.perf_counter()
        self._paused = 0.0

    def step(self, images: int) -> None:
        """Count a step of so many images."""
        self._steps += 1
        self._images += images

    def pause(self, seconds: float) -> None:
        """Leave out time that was not training, such as an evaluation."""
        self._paused += seconds

    def report(self) -> dict[str, float]:
        """Images/s of this process, estimated seconds left, peak memory in 2^20 bytes."""
        seconds = time.perf_counter() - self._start
        rate = self._images / max(seconds - self._paused, 1e-9)
        eta = seconds / self._steps * (self._steps_left - self._steps) if self._steps else 0.0
        return {
            "images_per_second": round(rate, 1),
            "eta_seconds": round(eta, 1),
            "peak_memory_mb": round(peak_memory(self._device) / 2**20, 1),
        }


def progress_bar(batches: Iterable[_T], *, total: int, start: int, title: str, show: bool) -> Iterable[_T]:
    """tqdm around the batches of an epoch; nothing is shown where stderr is no terminal."""
    if not show or not sys.stderr.isatty():
        return batches
    from tqdm import tqdm  # type: ignore[import-untyped]

    bar: Iterable[_T] = tqdm(batches, total=total, initial=start, desc=title, unit="step", leave=False)
    return bar


def pace_text(row: Mapping[str, Any]) -> str:
    """The pace in a line for people, from the keys that `Pace.report` gives."""
    minutes, seconds = divmod(round(row["eta_seconds"]), 60)
    return f"{row['images_per_second']:.0f} images/s  {row['peak_memory_mb']:.0f} MiB  left {minutes}:{seconds:02d}"


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had so far: on a GPU of tensors, else of everything; 0 if not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
