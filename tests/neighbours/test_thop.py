"""Multiply-accumulates by thop."""

from importlib.metadata import version

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attentions import ATTENTIONS, create_attention
from sase_attn.complexity import thop_ops


@pytest.mark.works_with("thop", "multiply-accumulates of every attention, as torch's FlopCounterMode has them")
@pytest.mark.parametrize("name", ATTENTIONS)
def test_counts(name):
    import thop

    assert version("thop").startswith(thop.__version__)  # ultralytics-thop installs a module of the same name
    network = nn.Sequential(nn.Conv2d(3, 16, 1), create_attention(name, 16)).eval()
    image = torch.randn(1, 3, 6, 5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    counted, parameters = thop.profile(network, (image,), custom_ops=thop_ops(), verbose=False)
    assert counted == counter.get_total_flops() / 2
    assert parameters == sum(p.numel() for p in network.parameters())
