"""Compiled super-network blocks: the numbers of eager ones, and no compilation after the first step."""

import copy

import pytest
import torch
from torch import nn

from sase_attn import attach
from sase_attn.search import SearchConfig, SearchSpace
from sase_attn.search.shared_weights.bilevel import Bilevel
from sase_attn.search.shared_weights.network import architecture_of, prepare

SPACE = SearchSpace({edge: names[:1] + names[3:5] for edge, names in SearchSpace.get("release").ops.items()})


@pytest.mark.slow
def test_compiled_steps_are_the_eager_ones_and_compile_once(one_thread):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    attach(model, after="1", attn=SPACE.block)
    batches = [(torch.randn(8, 3, 12, 12), torch.randint(4, (8,))) for _ in range(2)]
    alphas, compiled = [], []
    for compile in (False, True):
        network = copy.deepcopy(model).train()
        architecture = architecture_of(network, SPACE)
        prepare(network, architecture, SearchConfig(compile=compile, hvp="fd"))
        alpha = architecture.alpha
        sgd = torch.optim.SGD([p for p in network.parameters() if p is not alpha and p.requires_grad], lr=0.05)
        bilevel = Bilevel(network, alpha, sgd, torch.optim.Adam([alpha], lr=1e-3), hvp="fd", radius=0.1)
        torch._dynamo.utils.counters.clear()
        for _ in range(3):
            bilevel.step(*batches)
            compiled.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        alphas.append(alpha.detach())
        assert not torch._dynamo.utils.counters["graph_break"]
    assert compiled[:3] == [0, 0, 0] and compiled[3] > 0 and compiled[3] == compiled[5]
    torch.testing.assert_close(alphas[1], alphas[0], rtol=1e-3, atol=2e-4)
