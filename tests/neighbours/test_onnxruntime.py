"""Inference by ONNX Runtime."""

import networks
import pytest
import torch
from exporting import check_onnx, exported

from sase_attn import fuse, tile


@pytest.mark.works_with("onnxruntime", "a SASE ResNet exported once, run with other batches, heights and widths")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_sizes():
    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    images = [torch.randn(shape) for shape in [(2, 3, 64, 64), (3, 3, 48, 80), (1, 3, 96, 33)]]
    with torch.no_grad():
        check_onnx(exported(network, images[0], smallest=33), network, images)


def squeeze_excite():
    return networks.network("seresnet18", layers=[1, 1, 1, 1])


def tiled():
    network = squeeze_excite()
    tile(network, 3, 2)
    return network


@pytest.mark.works_with(
    "onnxruntime", "networks that `fuse` and `tile` have changed, at other sizes than the exported one"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["fused SASE", "fused SE", "tiled SE, fused"])
def test_fused_and_tiled(name):
    made = {
        "fused SASE": lambda: networks.network("sase_resnet20", layers=[1, 1, 1]),
        "fused SE": squeeze_excite,
        "tiled SE, fused": tiled,
    }
    network = fuse(made[name]())
    images = [torch.randn(shape) for shape in [(2, 3, 64, 64), (3, 3, 48, 80), (1, 3, 96, 33)]]
    with torch.no_grad():
        check_onnx(exported(network, images[0], smallest=33), network, images)


@pytest.mark.works_with(
    "onnxruntime", "`quantize_static` to int8 of a SASE ResNet, fused before: near the outputs in float32"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_int8(tmp_path):
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self, name):
            self.left = iter([{name: torch.randn(4, 3, 64, 64).numpy()} for _ in range(4)])

        def get_next(self):
            return next(self.left, None)

    network = fuse(networks.network("sase_resnet20", layers=[1, 1, 1]))
    x = torch.randn(8, 3, 64, 64)
    before, after = (str(tmp_path / name) for name in ("float.onnx", "int8.onnx"))
    with torch.no_grad():
        expected = network(x)
        torch.onnx.export(exported(network, x, smallest=33), dynamo=True, verbose=False).save(before)
    (argument,) = InferenceSession(before).get_inputs()
    quantize_static(before, after, Images(argument.name))
    found = torch.from_numpy(InferenceSession(after).run(None, {argument.name: x.numpy()})[0])
    assert (found - expected).norm() < 0.2 * (expected - expected.mean(0)).norm()
