"""Networks compiled ahead of time by torch's Inductor."""

import networks
import pytest
import torch
from exporting import exported

from sase_attn import fuse


@pytest.mark.works_with("torch", "AOTInductor of a fused SASE ResNet: compiled once, run with other sizes and batches")
@pytest.mark.filterwarnings("ignore")
def test_ahead_of_time(tmp_path):
    network = fuse(networks.network("sase_resnet20", layers=[1, 1, 1]))
    images = [torch.randn(shape) for shape in [(2, 3, 64, 64), (3, 3, 48, 80), (1, 3, 96, 33)]]
    quick = {"aot_inductor.compile_wrapper_opt_level": "O0"}
    path = str(tmp_path / "network.pt2")
    with torch.no_grad():
        program = exported(network, images[0], smallest=33)
        torch._inductor.aoti_compile_and_package(program, package_path=path, inductor_configs=quick)
        compiled = torch._inductor.aoti_load_package(path)
        for x in images:
            torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-4)
