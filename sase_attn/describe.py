"""`describe` counts a block's parameters and multiply-accumulates by edge; `describe_ops` lists all operations.

Multiply-accumulates (MACs) are those of convolutions and matrix products for one image, half of what torch's
`FlopCounterMode` counts. Element-wise work and reductions, of which most squeezes consist, are not counted.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attentions.registry import ATTENTIONS, create_attention
from sase_attn.attentions.starting_gain import VARYING, starting_gain
from sase_attn.block import SASEBlock
from sase_attn.genotype import EDGES, Genotype
from sase_attn.modules import count_parameters
from sase_attn.ops import OP_SETS, RELEASE_OPS, create_op, get_op


@dataclass(frozen=True)
class OpDescription:
    """An operation of a set.

    `source` is "release" (from the authors' code), "reading" (another reading of the paper's text) or "registered"
    (added by `register_op`).
    """

    set: str
    name: str
    source: str
    parameters: int
    definition: str


@dataclass(frozen=True)
class AttentionDescription:
    """An attention of the registry; `paper` is the first line of the file that defines it.

    `starting_gain` is the factor by which it multiplies a standardised map when it has just been built, None where no
    one factor describes it (see `sase_attn.attentions.starting_gain`). `gain` is the constant that it can start as,
    None where it cannot (see `Attention.zero_gates`).
    """

    name: str
    parameters: int
    starting_gain: float | None
    gain: float | None
    paper: str


@dataclass(frozen=True)
class EdgeDescription:
    """An edge of a block; the last one, "mix", stands for the layers that every block has between its edges."""

    edge: str
    op: str
    definition: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class BlockDescription:
    """A block for maps of `channels` × `size` × `size`; `genotype` is its inline string. `str()` returns a table."""

    genotype: str
    channels: int
    size: int
    edges: tuple[EdgeDescription, ...]
    parameters: int
    macs: int

    def __str__(self) -> str:
        rows = [(edge.edge, edge.op, f"{edge.parameters:,}", f"{edge.macs:,}", edge.definition) for edge in self.edges]
        head = ("edge", "operation", "parameters", "MACs", "definition")
        total = ("block", "", f"{self.parameters:,}", f"{self.macs:,}", "")
        regime = f"one image of {self.channels} channels, {self.size}×{self.size}"
        table = text_table([head, *rows, total], right=(2, 3))
        return f"{self.genotype}\n{regime}; MACs are those of convolutions and matrix products\n\n{table}"


def describe(genotype: Genotype, channels: int = 256, size: int = 56) -> BlockDescription:
    """Count the block's parameters and multiply-accumulates, in all and edge by edge.

    Args:
        genotype: the operations of the block.
        channels: channels of the map.
        size: height and width of the map.

    Raises:
        ValueError: `channels` or `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    # Fake tensors take no memory and no time, and do not advance the random generator of the process.
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        block = SASEBlock(channels, genotype).eval()
        block(torch.empty(1, channels, size, size))
    flops = counter.get_flop_counts()

    def macs(name: str) -> int:
        return int(sum(flops.get(name, {}).values())) // 2

    edges = []
    for edge, op_set in EDGES.items():
        name = getattr(genotype, edge)
        count = count_parameters(getattr(block, edge))
        edges.append(EdgeDescription(edge, name, definition(get_op(op_set, name)), count, macs(f"SASEBlock.{edge}")))
    mix = EdgeDescription(
        "mix",
        "",
        "1×1 convolution of [gated, input], batch norm, ReLU; the convolution runs element-wise.",
        count_parameters(block.mix) + count_parameters(block.norm),
        macs("SASEBlock.mix") + macs("SASEBlock.norm"),
    )
    return BlockDescription(str(genotype), channels, size, (*edges, mix), count_parameters(block), macs("Global"))


def describe_ops(channels: int = 256) -> Iterator[OpDescription]:
    """Every operation, set by set in order; weights per position are counted at their default size, 7×7."""
    for set_name, ops in OP_SETS.items():
        for name, op in ops.items():
            count = count_parameters(create_op(set_name, name, channels, device=torch.device("meta")))
            yield OpDescription(set_name, name, _source(set_name, name, op), count, definition(op))


def describe_attentions(channels: int = 256) -> Iterator[AttentionDescription]:
    """Every attention, in the registry's order."""
    for name, attention in ATTENTIONS.items():
        module = create_attention(name, channels, device=torch.device("meta"))
        zero_gates: Callable[[], float] | None = getattr(module, "zero_gates", None)  # a user's may have none
        try:
            gain = zero_gates() if zero_gates else None
        except TypeError:
            gain = None
        try:
            start = round(starting_gain(module), 3)
        except ValueError:
            start = None
        paper = definition(sys.modules[attention.__module__])
        yield AttentionDescription(name, count_parameters(module), start, gain, paper)


def attentions_table(channels: int = 256) -> str:
    """The attentions as a Markdown table."""
    rows = [f"| attention | paper | parameters at C = {channels} | starting gain | can start as |"]
    rows.append("| --- | --- | ---: | ---: | --- |")
    for attention in describe_attentions(channels):
        start = {None: "", 1.0: "x"}.get(attention.gain, f"{attention.gain}·x")
        varies = ATTENTIONS[attention.name].__name__ in VARYING
        starts = "" if attention.starting_gain is None else f"{'about ' * varies}{attention.starting_gain:g}"
        rows.append(f"| `{attention.name}` | {attention.paper} | {attention.parameters:,} | {starts} | {start} |")
    return "\n".join(rows)


def operations_table(channels: int = 256) -> str:
    """The operations as a Markdown table."""
    rows = [f"| set | operation | definition | parameters at C = {channels} | source |"]
    rows.append("| --- | --- | --- | ---: | --- |")
    for op in describe_ops(channels):
        text = op.definition.replace("|", r"\|")
        rows.append(f"| {op.set} | `{op.name}` | {text} | {op.parameters:,} | {op.source} |")
    return "\n".join(rows)


def text_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows as lines of aligned columns, two spaces apart; the columns in `right` are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def definition(op: object) -> str:
    """The first line of an object's docstring; empty where there is none."""
    return (getattr(op, "__doc__", None) or "").strip().partition("\n")[0]


def _source(set_name: str, name: str, op: type[nn.Module]) -> str:
    if not op.__module__.startswith("sase_attn."):
        return "registered"
    return "release" if name in RELEASE_OPS[set_name] else "reading"
