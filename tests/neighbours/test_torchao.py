"""Quantisation by torchao."""

import networks
import pytest
import torch
from torch import nn

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("torchao", "`quantize_` to int8 weights in every linear layer of a SASE ResNet")
def test_int8_weights():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
        quantize_(network, Int8WeightOnlyConfig())
        linear = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
        assert linear and all(type(weight) is not nn.Parameter for weight in linear)
        difference = (network(images) - expected).abs().max()
    assert 0 < difference < 0.05 * expected.abs().max()
