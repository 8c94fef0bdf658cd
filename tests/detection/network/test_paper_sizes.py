"""The sizes of the paper's detectors: exact, by its two conventions, and those of the detectors made here."""

import pytest
import torch

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network import create_detector, paper_sizes
from sase_attn.modules import count_parameters


@pytest.fixture(scope="module")
def sizes():
    return {(size.attention, size.detector, size.host): size for size in paper_sizes.detector_sizes()}


def test_exact_counts(sizes):
    assert len(sizes) == paper_sizes.NUMBER == 44
    found = {key[1:]: (size.total, size.trains) for key, size in sizes.items() if key[0] == "plain"}
    assert found == {
        ("Faster R-CNN", "resnet50"): (41_753_056, 41_527_712),
        ("Faster R-CNN", "resnet101"): (60_745_184, 60_519_840),
        ("Mask R-CNN", "resnet50"): (44_396_336, 44_170_992),
        ("Mask R-CNN", "resnet101"): (63_388_464, 63_163_120),
    }
    for detector in paper_sizes.DETECTORS:
        for host, added in (("resnet50", 2_545_536), ("resnet101", 4_808_984)):
            assert sizes["sase", detector, host].total - sizes["plain", detector, host].total == added


def test_the_paper_mixes_two_conventions(sizes):
    counts = {(size.attention, size.counts) for size in sizes.values() if size.paper_millions}
    assert counts == {("plain", "trains"), ("sase", "all"), (paper_sizes.RANDOM, "all")}


@pytest.mark.parametrize("attention, detector", [("plain", "Faster R-CNN"), ("sase", "Mask R-CNN")])
def test_they_are_those_of_the_detectors_made_here(sizes, attention, detector):
    """But for the outputs for the background, which torchvision's heads have."""
    backbone = "resnet50" if attention == "plain" else f"{attention}_resnet50"
    config = DetectionConfig(detector=paper_sizes.DETECTORS[detector], backbone=backbone)
    with torch.device("meta"):
        model = create_detector(config, 80, echo=lambda line: None)
    background = 4 * (1024 + 1) + (256 + 1) * config.has_masks
    size = sizes[attention, detector, "resnet50"]
    assert count_parameters(model) - background == size.total
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) - background == size.trains
