"""Kernels in a process that was forked after its parent had used them, as the workers of a DataLoader are."""

import torch
from inputs import draw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sase_attn import SASEBlock, kernels


class Gradients(Dataset[Tensor]):
    """What a block gives for each of a few maps: its output, or the map's gradient."""

    def __init__(self) -> None:
        self.block = SASEBlock(32).train()
        self.maps = [draw(2, 32, 12, 12), draw(2, 32, 7, 9)]

    def __len__(self) -> int:
        return 2 * len(self.maps)

    def __getitem__(self, index: int) -> Tensor:
        x = self.maps[index // 2].clone().requires_grad_()
        y = self.block(x)
        return torch.autograd.grad(y.square().sum(), [x])[0] if index % 2 else y.detach()


def test_forked_workers_compute_what_their_parent_did():
    maps = Gradients()
    with kernels.backend("auto"):
        here = [maps[index] for index in range(len(maps))]
        loader = DataLoader(maps, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        there = list(loader)
    assert len(there) == 4 and all(torch.equal(x, y) for x, y in zip(here, there, strict=True))
