"""The searched SASE block as ten lines of plain PyTorch, next to `SASEBlock`: what the library computes, to read.

    python examples/sase_in_ten_lines.py

`sase_block` takes a map (B, C, H, W) and the state dict of a `SASEBlock`. It is the formula of arXiv 2411.08333 with
the searched operations, without care for dead channels, half precision or speed. Prints how far the two are apart in
float64: about 1e-16 of the largest value.
"""

import torch
from torch import Tensor, relu, sigmoid
from torch.nn.functional import batch_norm, conv2d

from sase_attn import SASEBlock


def sase_block(x: Tensor, p: dict[str, Tensor], training: bool = False) -> Tensor:
    """y = x·(A_c + A_s)/2 + x from the block's parameters; `training`: batch norm by the statistics of the batch."""
    mean_weight, maximum_weight = p["channel_squeeze.mixer.weight"][0]
    z = relu(mean_weight * x.mean((2, 3), keepdim=True) + maximum_weight * x.amax((2, 3), keepdim=True))
    a_c = conv2d(relu(conv2d(z, p["channel_excite.fc1.weight"])), p["channel_excite.fc2.weight"])
    gated = x * sigmoid(p["channel_gate.alpha"] * z + p["channel_gate.beta"])
    l4, mean = (gated**4).sum(1, keepdim=True) ** 0.25, x.mean(1, keepdim=True)
    mixed = conv2d(torch.cat([l4, mean], 1), p["mix.weight"])
    running = p["norm.running_mean"].clone(), p["norm.running_var"].clone()
    m = relu(batch_norm(mixed, *running, p["norm.weight"], p["norm.bias"], training))
    hidden = relu(conv2d(m, p["spatial_excite.first.weight"], padding=1))
    a_s = sigmoid(conv2d(hidden, p["spatial_excite.rest.0.weight"], padding=1))
    return x * (a_c + a_s) / 2 + x


if __name__ == "__main__":
    torch.manual_seed(0)
    block, x = SASEBlock(64, gate_init="release").double(), torch.randn(2, 64, 14, 14, dtype=torch.float64)
    for training in (False, True):
        expected = sase_block(x, block.state_dict(), training)
        difference = (block.train(training)(x) - expected).abs().max() / expected.abs().max()
        print(f"{'train' if training else 'eval'}: largest difference {difference:.1e} of the largest value")
