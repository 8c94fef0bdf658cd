"""Multiply-accumulates by ptflops."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attentions import ATTENTIONS, create_attention
from sase_attn.complexity import ptflops_hooks


@pytest.mark.works_with("ptflops", "what the hooks add: convolutions by functions, as torch's FlopCounterMode has them")
@pytest.mark.parametrize("name", ATTENTIONS)
def test_counts(name):
    from ptflops import get_model_complexity_info

    def counted(**hooks):
        return get_model_complexity_info(network, (16, 6, 5), print_per_layer_stat=False, as_strings=False, **hooks)[0]

    network = create_attention(name, 16).eval()
    of_layers = []
    hooks = [
        module.register_forward_hook(
            lambda layer, inputs, y: of_layers.append(layer.weight.numel() * y.numel() // y.shape[1])
        )
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d)
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 16, 6, 5))
    for hook in hooks:
        hook.remove()
    convolutions = counter.get_flop_counts().get("Global", {}).get(torch.ops.aten.convolution, 0) // 2
    assert counted(custom_modules_hooks=ptflops_hooks()) - counted() == convolutions - sum(of_layers)
    assert convolutions > 0 or name in (
        "srm",
        "gct_gaussian",
        "gct_gated",
        "ean",
        "ge_theta_minus",
        "ge_theta",
        "constant",
    )
