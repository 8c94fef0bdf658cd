"""`Group`: measurements of one level, shape, layout and mode, whose variants run in turn in one process."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from rows import Row
from speed_timing import Clock, Run, launches, peak_bytes, replayed, saved_bytes
from speed_variants import FusedTail, Variant, block_maps, variants
from torch import Tensor, nn

Shape = tuple[int, int, int, int]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = ("forward", "forward+backward")
SHAPES: dict[str, list[Shape]] = {"cpu": [(16, 256, 56, 56), (16, 1024, 14, 14)]}
SHAPES["cuda"] = [(256, 256, 56, 56), (256, 2048, 7, 7)]
IMAGES: dict[str, Shape] = {"cpu": (8, 3, 224, 224), "cuda": (128, 3, 224, 224)}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
MINIMAL_MAPS = {("block", "forward"): 2, ("block", "forward+backward"): 5}
"""Maps that are read or written at least: forward x and y; backward also x, the gradient of y, and that of x."""
MINIMAL_MAPS |= {("tail", "forward"): 3, ("tail", "forward+backward"): 8}
"""Forward x, shortcut, y; backward also x, y (the ReLU's mask) and the gradients of y, x and shortcut."""
LIMITS = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest ‖difference‖/‖output‖ within a family, four times as much for a network; beyond it no time is measured."""


@dataclass(frozen=True)
class Group:
    """Measurements to make together. Forward passes keep no graph; tail and network are then in eval mode."""

    device: str
    level: str
    shape: Shape
    layout: str
    mode: str

    @property
    def training(self) -> bool:
        """Whether norms use the statistics of the batch."""
        return self.level == "block" or self.mode == "forward+backward"

    @property
    def words(self) -> set[str]:
        """The words that `--only` may contain for this group."""
        return {self.level, f"{self.shape[2]}x{self.shape[3]}", self.layout, self.mode}

    def __str__(self) -> str:
        return f"{self.device} {self.level} {'×'.join(map(str, self.shape))} {self.layout} {self.mode}"


def groups(device: str) -> list[Group]:
    """All groups of a device, in the order in which they are measured."""
    places = [("block", shape) for shape in SHAPES[device]] + [("tail", shape) for shape in SHAPES[device]]
    return [
        Group(device, level, shape, layout, mode)
        for level, shape in [*places, ("model", IMAGES[device])]
        for mode in MODES
        for layout in LAYOUTS
    ]


class Bench:
    """The inputs of a group, and its variants as calls without arguments."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.layout: torch.memory_format = LAYOUTS[group.layout]
        torch.manual_seed(1)
        count = 2 if group.level == "tail" else 1
        self.inputs = [self._random(group.shape).requires_grad_(group.mode != "forward") for _ in range(count)]
        torch.compiler.reset()  # otherwise earlier shapes would make this one dynamic
        self.variants = variants(group.level, group.shape[1], group.device, self._prepare)
        maps = [group.shape] if group.level != "model" else block_maps(self.variants[0].module, group.shape)
        size = torch.empty(0, dtype=DTYPES[group.device]).element_size()
        self.map_bytes = sum(size * torch.Size(shape).numel() for shape in maps)
        self.cotangents: dict[torch.Size, Tensor] = {}
        self.source = self._random(maps[0])
        self.copied = torch.empty_like(self.source)

    def _random(self, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(shape, device=self.group.device).to(DTYPES[self.group.device])
        return values.contiguous(memory_format=self.layout)

    def _prepare(self, module: nn.Module) -> nn.Module:
        module = module.to(self.group.device, DTYPES[self.group.device]).train(self.group.training)
        return module.to(memory_format=self.layout)

    def copy(self) -> None:
        """Copy the map between allocated tensors (for a network, the output of the first residual block)."""
        self.copied.copy_(self.source)

    def run(self, variant: Variant) -> list[Tensor]:
        """Run a variant; returns the output, and with the backward pass also the gradients of the inputs."""
        if self.group.mode == "forward":
            with torch.no_grad():
                return [variant.call(*self.inputs)]
        self._clear(variant)
        y = variant.call(*self.inputs)
        if y.shape not in self.cotangents:
            self.cotangents[y.shape] = self._random(y.shape) if y.dim() == 4 else torch.randn_like(y)
        y.backward(self.cotangents[y.shape])
        return [y.detach(), *(tensor.grad for tensor in self.inputs if tensor.grad is not None)]

    def _clear(self, variant: Variant) -> None:
        for tensor in [*self.inputs, *variant.module.parameters()]:
            tensor.grad = None

    def memory(self, variant: Variant) -> dict[str, float]:
        """Peak memory, and memory kept for the backward pass, in maps (for a network, in outputs of all its blocks)."""
        self._clear(variant)
        found = {"peak_maps": peak_bytes(partial(self.run, variant), self.group.device) / self.map_bytes}
        if self.group.mode != "forward":
            saved = saved_bytes(lambda: variant.call(*self.inputs), variant.module)
            found["saved_maps"] = saved / self.map_bytes
        return found


def measure(group: Group, rounds: int, deadline: float, echo: Callable[[str], None] = print) -> list[Row]:
    """One row for each variant, except for those not compiled by the deadline. The row of a failure has an `error`."""
    bench, clock = Bench(group), Clock(group.device)
    rows: list[Row] = []
    ready: list[tuple[Variant, Row]] = []
    first: dict[str, list[Tensor]] = {}
    for variant in bench.variants:
        if time.monotonic() > deadline:
            break
        row = asdict(group) | {"label": f"{group}: {variant.label}", "seed": 0, "variant": variant.label}
        row |= {
            "family": variant.family,
            "compiled": variant.compiled,
            "fused": variant.fused,
            "training": group.training,
        }
        rows.append(row)
        try:
            row["difference"] = _difference(bench.run(variant), first, variant)
            bench.run(variant)
            row |= bench.memory(variant)
        except Exception as error:  # a failing variant must not prevent the rows of the others
            row["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:200]
            echo(f"{row['label']}: {row['error']}")
            continue
        if not row["difference"] <= LIMITS[DTYPES[group.device]] * (4 if group.level == "model" else 1):
            row["error"] = f"differs from the definition by {row['difference']:.1e}"
            echo(f"{row['label']}: {row['error']}")
            continue
        ready.append((variant, row))
    for row in rows:
        row["complete"] = len(rows) == len(bench.variants)
    runs: list[Run] = [bench.copy, *(partial(bench.run, variant) for variant, _ in ready)]
    bench.copy()
    samples = clock.interleaved(runs, rounds, deadline)
    copies, *times = [torch.tensor(each, dtype=torch.float64) for each in samples]
    plain = {_way(variant): t for (variant, _), t in zip(ready, times, strict=True) if variant.family == "plain"}
    for (variant, row), ms in zip(ready, times, strict=True):
        row |= _times(ms, copies, bench, plain.get(_way(variant)))
        if group.device == "cuda" and group.mode == "forward":
            row |= _recorded(partial(bench.run, variant), clock, rounds)
    return rows


def _way(variant: Variant) -> tuple[bool, bool]:
    """Whether a variant is compiled and fused, by which its plain counterpart is found.

    A plain tail, and a plain network in training, have nothing to fuse.
    """
    alone = isinstance(variant.module, FusedTail) or variant.module.training
    return variant.compiled, variant.fused and not alone


def _difference(found: list[Tensor], first: dict[str, list[Tensor]], variant: Variant) -> float:
    """The relative difference of the output to that of the family's first variant."""
    y, expected = found[0].double(), first.setdefault(variant.family, found)[0].double()
    return ((y - expected).norm() / expected.norm()).item()


def _times(ms: Tensor, copies: Tensor, bench: Bench, plain: Tensor | None) -> dict[str, Any]:
    """Medians of milliseconds, and of ratios that are computed round by round."""
    low, median, high = ms.quantile(ms.new_tensor([0.25, 0.5, 0.75])).tolist()
    row = {"ms": median, "ms_low": low, "ms_high": high, "rounds": len(ms), "copy_ms": copies.median().item()}
    row["copies"] = (ms / copies).median().item()
    maps = MINIMAL_MAPS.get((bench.group.level, bench.group.mode))
    if maps:
        row["minimal_maps"] = maps
        row["gb_per_s"] = maps * bench.map_bytes / median / 1e6
        row["percent_of_copy"] = (50 * maps * copies / ms).median().item()
    if plain is not None:
        row["of_plain"] = (ms / plain).median().item()
        moved = 2 * bench.source.numel() * bench.source.element_size()
        row["passes"] = ((ms - plain) / (copies * bench.map_bytes / moved)).median().item()
    return row


def _recorded(run: Run, clock: Clock, rounds: int) -> dict[str, Any]:
    """The number of kernels, and the time as a CUDA graph; or why the call cannot be recorded as one."""
    try:
        replay = replayed(run)
        times = torch.tensor([clock.sample(replay, 10) for _ in range(rounds)])
        return {"launches": launches(run), "graph_ms": times.median().item()}
    except RuntimeError as error:
        return {"graph_error": str(error).splitlines()[0][:200]}
