"""`Pace`: the speed of a run in images per second, time left and peak memory; `ProgressBar` for terminals."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from shutil import get_terminal_size
from typing import Any, Generic, TypeVar

import torch

_T = TypeVar("_T")


class Pace:
    """Images per second, time left and peak memory, since this process started training."""

    def __init__(self, device: torch.device, steps_left: int) -> None:
        self._device, self._steps_left, self._steps, self._images = device, steps_left, 0, 0
        self._start = time.perf_counter()
        self._paused = 0.0

    def step(self, images: int) -> None:
        """Count a step of `images` images."""
        self._steps += 1
        self._images += images

    def pause(self, seconds: float) -> None:
        """Exclude time that was not training, such as an evaluation."""
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


class ProgressBar(Generic[_T]):
    """tqdm over the batches of an epoch, with notes at its end; nothing is shown if stderr is not a terminal."""

    def __init__(self, batches: Iterable[_T], *, total: int, start: int, title: str, show: bool) -> None:
        self._batches, self._bar = batches, None
        if show and sys.stderr.isatty():
            from tqdm import tqdm  # type: ignore[import-untyped]

            width, height = get_terminal_size()  # tqdm shows nothing if the size of the terminal is unknown
            self._bar = tqdm(
                batches, total=total, initial=start, desc=title, unit="step", leave=False, ncols=width - 1, nrows=height
            )

    def __iter__(self) -> Iterator[_T]:
        return iter(self._batches if self._bar is None else self._bar)

    def note(self, values: Mapping[str, Any], pace: Pace) -> None:
        """Show the time left for the whole run, its memory, and the numbers among a step's values.

        The order matters, as a narrow terminal cuts off the end.
        """
        if self._bar is not None:
            row = pace.report()
            text = f"{_left(row)}  {_memory(row)}  {losses_text(values)}"
            self._bar.set_postfix_str(text, refresh=False)


def losses_text(values: Mapping[str, Any]) -> str:
    """The first six numbers among values, with their names: a line has no room for more."""
    shown = [(name, value) for name, value in values.items() if isinstance(value, float) and math.isfinite(value)]
    return " ".join(f"{name.removeprefix('loss_')} {value:.3g}" for name, value in shown[:6])


def pace_text(row: Mapping[str, Any]) -> str:
    """The pace as text, from the keys of `Pace.report`."""
    rate = row["images_per_second"]
    speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    return f"{speed} images/s  {_memory(row)}  {_left(row)}"


def _left(row: Mapping[str, Any]) -> str:
    minutes, seconds = divmod(round(row["eta_seconds"]), 60)
    return f"left {minutes}:{seconds:02d}"


def _memory(row: Mapping[str, Any]) -> str:
    return f"{row['peak_memory_mb']:.0f} MiB"


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: of tensors on a GPU, otherwise of everything; 0 if not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
