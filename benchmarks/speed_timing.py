"""`Clock`: time of calls on the CPU and on CUDA; also their memory, and the number of kernels."""

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[], Any]
SAMPLE_MS = 15
"""Shortest time of a sample; short calls are repeated."""


class Clock:
    """Measures milliseconds of a call, on CUDA by events, with the L2 cache flushed before every call."""

    def __init__(self, device: str) -> None:
        self._flush = torch.empty(2**26, dtype=torch.int32, device=device) if device == "cuda" else None

    def sample(self, run: Run, repeats: int = 1) -> float:
        """The mean time of `repeats` consecutive calls."""
        if self._flush is None:
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            return (time.perf_counter() - start) * 1e3 / repeats
        times = []
        for _ in range(repeats):
            self._flush.zero_()
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
            run()
            events[1].record()
            times.append(events)
        torch.cuda.synchronize()
        return sum(first.elapsed_time(last) for first, last in times) / repeats

    def interleaved(self, runs: list[Run], rounds: int, deadline: float) -> list[list[float]]:
        """Samples of each run, all in turn; every round begins with another run. The deadline may end the rounds early.

        Each run must have been called once before.
        """
        repeats = [max(1, min(50, round(SAMPLE_MS / self.sample(run)))) for run in runs]
        found: list[list[float]] = [[] for _ in runs]
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds):
                if number >= 3 and time.monotonic() > deadline:
                    break
                for step in range(len(runs)):
                    which = (number + step) % len(runs)
                    found[which].append(self.sample(runs[which], repeats[which]))
        finally:
            gc.enable()
        return found


def peak_bytes(run: Run, device: str) -> int:
    """Peak of the bytes allocated during a call, beyond those allocated before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise it logs every start and stop
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    del result
    held = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def saved_bytes(run: Run, module: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once; parameters and buffers not counted."""
    own = {_storage(t) for t in [*module.parameters(), *module.buffers()]}
    found: dict[int, Tensor] = {}  # holds the tensors, so that no storage is freed and its address used again

    def keep(tensor: Tensor) -> Tensor:
        found.setdefault(_storage(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(tensor.untyped_storage().nbytes() for place, tensor in found.items() if place not in own)


def launches(run: Run) -> int:
    """The number of kernels, copies and fills that a call starts on CUDA."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    events: Iterable[Any] = profile.events() or []
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in events)


def replayed(run: Run) -> Run:
    """The call recorded as a CUDA graph, whose time does not include the launch of kernels."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
