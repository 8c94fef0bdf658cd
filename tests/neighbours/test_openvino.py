"""Inference by OpenVINO."""

import networks
import pytest
import torch

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("openvino", "`convert_model` of a SASE ResNet, run at other sizes than the converted one")
def test_convert_model():
    import openvino

    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    converted = openvino.convert_model(network, example_input=torch.randn(1, 3, 64, 64))
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", exact)
    for shape in [(1, 3, 64, 64), (3, 3, 48, 80)]:
        images = torch.randn(shape)
        with torch.no_grad():
            expected = network(images)
        torch.testing.assert_close(torch.from_numpy(compiled(images.numpy())[0]), expected, rtol=1e-3, atol=1e-4)
