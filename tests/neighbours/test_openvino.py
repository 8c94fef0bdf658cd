"""Inference by OpenVINO."""

import networks
import pytest
import torch
from exporting import exported

from sase_attn import fuse, tile


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


@pytest.mark.works_with(
    "openvino", "ONNX of networks that `fuse` and `tile` have changed, other sizes than the exported"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["fused SASE", "tiled SE, fused"])
def test_fused_and_tiled(name, tmp_path):
    import openvino

    if name == "fused SASE":
        network = networks.network("sase_resnet20", layers=[1, 1, 1])
    else:
        network = networks.network("seresnet18", layers=[1, 1, 1, 1])
        tile(network, 3, 2)
    fuse(network)
    images = [torch.randn(shape) for shape in [(2, 3, 64, 64), (3, 3, 48, 80), (1, 3, 96, 33)]]
    path = str(tmp_path / "network.onnx")
    with torch.no_grad():
        torch.onnx.export(exported(network, images[0], smallest=33), dynamo=True, verbose=False).save(path)
        compiled = openvino.compile_model(openvino.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for x in images:
            found = torch.from_numpy(compiled(x.numpy())[0])
            torch.testing.assert_close(found, network(x), rtol=1e-3, atol=1e-4)
