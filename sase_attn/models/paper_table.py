"""`comparison`: the SASE paper's table of attentions, with exact counts, and where the two disagree.

The paper's figures are those of arXiv 2411.08333 for ImageNet, ResNet-50 and ResNet-101. Counts are of the networks
here; MACs are those of convolutions and matrix products for one 224×224 image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.describe import text_table
from sase_attn.models.placement import PLACEMENTS
from sase_attn.modules import count_parameters

HOSTS = ("resnet50", "resnet101")

# In the paper's table: millions of parameters and top-1 accuracy in percent, for both hosts.
PAPER_TABLE: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "plain": (("25.56", "44.55"), ("75.30", "76.7")),
    "srm": (("25.56", "44.55"), ("77.51", "78.76")),
    "gsop": (("28.20", "48.90"), ("77.72", "78.82")),
    "eca": (("25.56", "44.55"), ("77.48", "78.65")),
    "autola": (("29.39", "51.81"), ("78.18", "79.05")),
    "gct_gaussian": (("25.56", "44.55"), ("77.55", "78.85")),
    "mca_e": (("25.56", "44.68"), ("76.61", "78.21")),
    "ean": (("25.56", "44.55"), ("77.87", "78.92")),
    "sase": (("28.10", "49.36"), ("77.79", "79.21")),
}
NOTES = {
    "srm": "the weights (2C) and the norm (2C) of every block are not in the paper's column",
    "gsop": "the paper's R101 column has 1.6M more than GSoP-Net1, which is the same four blocks in both networks",
    "autola": "with ratio 1/16 in both SE 29.41 and 51.85",
    "mca_e": "the paper's R101 entry is the exact count of SRM's, a slip of one row",
    "ean": "with 32 groups instead of 16 both round to the paper's figures",
}

ATTENTIONS = tuple(dict.fromkeys([*PAPER_TABLE, *PLACEMENTS]))
"""The attentions that are compared, those of the paper's table first."""


@dataclass(frozen=True)
class ComparedAttention:
    """An attention's networks. `paper_millions` and `paper_top1` are from the paper for ResNet-50 and -101, or None."""

    attention: str
    parameters: tuple[int, int]
    macs: tuple[int, int]
    paper_millions: tuple[str, str] | None
    paper_top1: tuple[str, str] | None
    agrees: bool | None
    note: str


def comparison() -> Iterator[ComparedAttention]:
    """Every attention that has networks here, those of the paper's table first."""
    for attention in ATTENTIONS:
        counts = [_parameters_and_macs(host if attention == "plain" else f"{attention}_{host}") for host in HOSTS]
        sizes = (counts[0][0], counts[1][0])
        millions, top1 = PAPER_TABLE.get(attention, (None, None))
        agrees = None if millions is None else millions == tuple(f"{size / 1e6:.2f}" for size in sizes)
        note = NOTES.get(attention, "")
        yield ComparedAttention(attention, sizes, (counts[0][1], counts[1][1]), millions, top1, agrees, note)


def comparison_text(compared: Iterable[ComparedAttention]) -> str:
    """The table as text, and what is inconsistent in the paper's. `compared` is the result of `comparison`."""
    rows: list[tuple[str, ...]] = [("attention", "R50", "MACs", "R101", "MACs", "paper", "top-1", "agrees")]
    notes = []
    for row in compared:
        paper = "/".join(row.paper_millions or ()) or "-"
        agrees = {True: "yes", False: "no", None: ""}[row.agrees]
        counts = [f"{n:,}" for pair in zip(row.parameters, row.macs, strict=True) for n in pair]
        rows.append((row.attention, *counts, paper, "/".join(row.paper_top1 or ()) or "-", agrees))
        if row.agrees is False:
            notes.append(f"  {row.attention}: {row.note}")
    return "\n".join(
        [
            "parameters and MACs (one 224×224 image); paper: millions of parameters and ImageNet top-1 of its table",
            text_table(rows, right=(1, 2, 3, 4)),
            "",
            "where the paper's column and the count disagree",
            *notes,
        ]
    )


def _network(name: str) -> nn.Module:
    """A network on the meta device, whose tensors have shapes but no values."""
    return timm.create_model(name, device=torch.device("meta")).eval()


def _parameters_and_macs(name: str) -> tuple[int, int]:
    model = _network(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, 224, 224, device="meta"))
    return count_parameters(model), counter.get_total_flops() // 2
