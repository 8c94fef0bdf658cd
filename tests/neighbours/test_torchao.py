"""Quantisation by torchao."""

import networks
import pytest
import torch
from torch import nn

from sase_attn import SASEBlock


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


def quantised(network, images, training):
    """In int8 by PT2E for Inductor on x86, after three steps of training where asked for; and before, its outputs."""
    from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=training))
    exported = torch.export.export(network.train(training), (images,)).module()
    prepared = (prepare_qat_pt2e if training else prepare_pt2e)(exported, quantizer)
    if training:
        move_exported_model_to_train(prepared)
        optimizer = torch.optim.SGD(prepared.parameters(), lr=0.01)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            losses.append(nn.functional.cross_entropy(prepared(images), torch.arange(len(images))))
            losses[-1].backward()
            optimizer.step()
        assert losses[2] < losses[0]
        move_exported_model_to_eval(prepared)
    with torch.no_grad():
        expected = prepared(images)
        converted = convert_pt2e(prepared)
        assert sum("quantize_per" in str(node.target) for node in converted.graph.nodes) > 5
        return converted(images), expected


def small():
    """A SASE block between layers that quantisers know. No norm is at zero: torchao divides by its weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), SASEBlock(8)]
    return networks.moved(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), size=16)


@pytest.mark.works_with("torchao", "PT2E: convolutions, norms and a SASE block exported, calibrated, int8 for x86")
def test_pt2e():
    network, images = small(), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        float_outputs = network(images)
    outputs, _ = quantised(network, images, training=False)
    assert (outputs - float_outputs).norm() < 0.1 * float_outputs.norm()


@pytest.mark.works_with("torchao", "PT2E with training (QAT): convolutions, norms and a SASE block, int8 for x86")
def test_qat():
    outputs, expected = quantised(small(), torch.randn(4, 3, 16, 16), training=True)
    assert (outputs - expected).norm() < 0.1 * expected.norm()
