"""Parameters of the detectors in the SASE paper's COCO tables, in all and trained ones, beside the paper's own numbers.

Heads are counted as in mmdetection: they predict no boxes and no mask for the background, while torchvision's do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from sase_attn.describe import text_table
from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network.detector import create_detector
from sase_attn.models.paper_table import HOSTS, PAPER_TABLE
from sase_attn.modules import count_parameters

CLASSES = 80
DETECTORS = {"Faster R-CNN": "faster_rcnn", "Mask R-CNN": "mask_rcnn"}
RANDOM = "sase, random genotype"
# One of the 7,810 genotypes with the paper's sizes, 25.59M and 44.62M; the paper does not say which one it used.
RANDOM_GENOTYPE = (
    "channel_squeeze:l2norm,channel_excite:conv1d_k3,channel_gate:conv1d_k3,spatial_squeeze_input:gap,"
    "spatial_squeeze_gated:gap,spatial_excite:conv2d_k7,residual:true"
)
ATTENTIONS = ("plain", "sase", RANDOM, "se", *(name for name in PAPER_TABLE if name not in ("plain", "sase")))
NUMBER = len(ATTENTIONS) * len(DETECTORS) * len(HOSTS)
# Millions in the paper's COCO tables, by detector and host.
PAPER_MILLIONS: dict[str, dict[tuple[str, str], str]] = {
    attention: dict(zip([(detector, host) for detector in DETECTORS for host in HOSTS], millions, strict=True))
    for attention, millions in {
        "plain": ("41.5", "60.5", "44.2", "63.2"),
        "sase": ("44.3", "65.6", "46.9", "68.2"),
        RANDOM: ("41.8", "60.8", "44.4", "63.5"),
    }.items()
}
NOTES = """\
Parameters for 80 classes, counted as mmdetection counts them: torchvision's heads also give boxes of the background
(4,100 values more) and masks of it (257). *Trains* leaves out the frozen stem and first stage with its attention. The
paper's plain rows are what trains and its SASE rows are all: the true difference is 2.55M and 4.81M, not 2.8M and 5.1M.
`gsop_resnet50` ends at stride 16, so `create_detector` refuses it; its row is what it would have.
The paper's entries for the other attentions were not at hand."""


@dataclass(frozen=True)
class DetectorSize:
    """A detector: its parameters, those that train in the paper's schedule, and the paper's entry with what it counts.

    `counts` is "all" or "trains" where the paper's entry is that number rounded, else nothing.
    """

    detector: str
    host: str
    attention: str
    total: int
    trains: int
    paper_millions: str | None
    counts: str


def detector_sizes() -> Iterator[DetectorSize]:
    """The sizes of `NUMBER` detectors: every attention of the paper's comparison, and SE, in its four detectors."""
    heads = {detector: _without_backbone(name) for detector, name in DETECTORS.items()}
    for attention in ATTENTIONS:
        backbones = {host: _backbone(attention, host) for host in HOSTS}
        for detector in DETECTORS:
            for host, (size, frozen) in backbones.items():
                total = heads[detector] + size
                paper = PAPER_MILLIONS.get(attention, {}).get((detector, host))
                words = {f"{total / 1e6:.1f}": "all", f"{(total - frozen) / 1e6:.1f}": "trains"}
                yield DetectorSize(detector, host, attention, total, total - frozen, paper, words.get(paper or "", ""))


def detectors_table() -> str:
    """The sizes as a Markdown table, with a note on what is counted."""
    head, *rows = _rows(detector_sizes())
    right = [" ---:" if "R" in title else " ---" for title in head]
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{' |'.join(right)} |", *lines[1:], "", NOTES])


def detectors_text(sizes: Iterable[DetectorSize]) -> str:
    """The sizes as a text table for a terminal."""
    return f"COCO\n{text_table(_rows(sizes), right=(2, 3, 5, 6))}\n{NOTES.replace('`', '').replace('*', '')}"


def _rows(sizes: Iterable[DetectorSize]) -> list[list[str]]:
    rows: dict[tuple[str, str], list[str]] = {}
    for size in sizes:
        paper = f"{size.paper_millions} ({size.counts})" if size.paper_millions else ""
        row = rows.setdefault((size.attention, size.detector), [size.attention, size.detector])
        row += [f"{size.total:,}", f"{size.trains:,}", paper]
    columns = [f"R{depth} {what}" for depth in (50, 101) for what in ("all", "trains", "paper")]
    return [["attention", "detector", *columns], *rows.values()]


def _without_backbone(detector: str) -> int:
    """Parameters of pyramid and heads, without the outputs of boxes and masks for the background."""
    # This small network has maps of the same widths as every host.
    shallow = DetectionConfig(detector=detector, backbone="resnet50", backbone_kwargs={"layers": [1, 1, 1, 1]})
    with torch.device("meta"):
        model: Any = create_detector(shallow, CLASSES, echo=lambda _: None)
    unused = 4 * (model.roi_heads.box_predictor.bbox_pred.in_features + 1)
    if shallow.has_masks:
        unused += model.roi_heads.mask_predictor.mask_fcn_logits.in_channels + 1
    return count_parameters(model) - count_parameters(model.backbone.body) - unused


def _backbone(attention: str, host: str) -> tuple[int, int]:
    """Parameters of a backbone, and of its stem and first stage."""
    name, args = {"plain": (host, {}), RANDOM: (f"sase_{host}", {"genotype": RANDOM_GENOTYPE})}.get(
        attention, (f"{attention}_{host}", {})
    )
    network: nn.Module = timm.create_model(name, num_classes=0, device=torch.device("meta"), **args)
    return count_parameters(network), sum(
        count_parameters(network.get_submodule(part)) for part in ("conv1", "bn1", "layer1")
    )
