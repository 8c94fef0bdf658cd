"""Inference by ONNX Runtime."""

import networks
import pytest
import torch
from exporting import check_onnx, exported

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("onnxruntime", "a SASE ResNet exported once, run with other batches, heights and widths")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_sizes():
    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    images = [torch.randn(shape) for shape in [(2, 3, 64, 64), (3, 3, 48, 80), (1, 3, 96, 33)]]
    with torch.no_grad():
        check_onnx(exported(network, images[0], smallest=33), network, images)
