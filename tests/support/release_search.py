"""The release's search in plain torch: its super-network as a function of weights by name, and its bilevel step.

This is a reference implementation from the formulas, without modules, kernels or optimizers of the package or of torch.
Weights have the names of the package's super-network, so that both can start from the same weights.
"""

import torch
import torch.nn.functional as F

EDGES = (
    "channel_squeeze",
    "channel_excite",
    "channel_gate",
    "spatial_squeeze_input",
    "spatial_squeeze_gated",
    "spatial_excite",
)
ALPHA = "layer1.0.bn2.attn.architecture.alpha"
SPATIAL_KERNELS = ((3, 3),), ((5, 5),), ((7, 7),), ((3, 3), (3, 3)), ((1, 3), (3, 1)), ((1, 5), (5, 1))


def batch_norm(x, p=None, name=""):
    """Batch norm by the statistics of the batch; without weight and bias if there is no name."""
    mean = x.mean((0, 2, 3), keepdim=True)
    y = (x - mean) / (x - mean).square().mean((0, 2, 3), keepdim=True).add(1e-5).sqrt()
    return y * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None] if name else y


def second_order(rows, p, name):
    """(B, N, M) → covariance/(N − 1) → batch norm → weighted sum of each row → ReLU → 1×1 layer."""
    centred = rows - rows.mean(2, keepdim=True)
    y = batch_norm((centred @ centred.transpose(1, 2) / (rows.shape[1] - 1))[..., None], p, f"{name}.norm")
    y = (y[..., 0] * p[f"{name}.rows.weight"][:, 0, :, 0]).sum(2)
    return F.relu(y) @ p[f"{name}.fc.weight"][:, :, 0, 0].T


def squeezes(x, p, name, dims):
    """The seven squeezes of an edge, each per channel (B, C, 1, 1) or per position (B, 1, H, W)."""
    batch, channels, height, width = x.shape
    mean = x.mean(dims, keepdim=True)
    central = x - mean
    count = x.numel() // mean.numel()
    standardised = x - x.mean((2, 3), keepdim=True)
    standardised = standardised / standardised.square().mean((2, 3), keepdim=True).add(1e-5).sqrt()
    weight, bias = p[f"{name}.2.weight"], p[f"{name}.2.bias"]
    if dims == (2, 3):
        pooled = x.view(batch, channels // 4, 4, -1).mean(2)
        gsop = second_order(pooled, p, f"{name}.1.second_order")[:, :, None, None]
        weight, bias = weight[:, None, None], bias[:, None, None]
    else:
        pooled = F.adaptive_avg_pool2d(x, 8).flatten(2).transpose(1, 2)
        gsop = second_order(pooled, p, f"{name}.1.second_order").view(batch, 1, 8, 8)
        gsop = gsop.repeat_interleave(height // 8, 2).repeat_interleave(width // 8, 3)

    def mixed(place, statistic):
        first, second = p[f"{name}.{place}.mixer.weight"].flatten()
        return F.relu(first * mean + second * statistic)

    return [
        mean,
        gsop,
        (standardised * weight + bias).square().sum(dims, keepdim=True).sqrt(),
        x.pow(4).sum(dims, keepdim=True).pow(0.25),
        mixed(4, x.amax(dims, keepdim=True)),
        mixed(5, (central.square().sum(dims, keepdim=True) / (count - 1)).sqrt()),
        mixed(6, central.pow(3).mean(dims, keepdim=True)),
    ]


def channel_excites(z, p, name):
    """The seven excitations of (B, C, 1, 1); the first, which is fully connected, has no sigmoid."""
    row = z.flatten(1)
    hidden = F.relu(row @ p[f"{name}.0.fc1.weight"][:, :, 0, 0].T)
    outputs = [hidden @ p[f"{name}.0.fc2.weight"][:, :, 0, 0].T]
    for place, depth in ((1, 1), (2, 1), (3, 1), (4, 2), (5, 3)):
        y = row[:, None]
        for layer in range(depth):
            weight = p[f"{name}.{place}.first.weight" if layer == 0 else f"{name}.{place}.rest.{layer - 1}.weight"]
            y = F.conv1d(y if layer == 0 else F.relu(y), weight, padding=weight.shape[2] // 2)
        outputs.append(y[:, 0].sigmoid())
    outputs.append((p[f"{name}.6.alpha"].flatten() * row + p[f"{name}.6.beta"].flatten()).sigmoid())
    return [y[:, :, None, None] for y in outputs]


def spatial_excites(m, p, name):
    """The seven excitations of (B, 1, H, W)."""
    outputs = []
    for place, kernels in enumerate(SPATIAL_KERNELS):
        y = m
        for layer, kernel in enumerate(kernels):
            weight = p[f"{name}.{place}.first.weight" if layer == 0 else f"{name}.{place}.rest.{layer - 1}.weight"]
            y = F.relu(y) if layer and place == 3 else y
            y = F.conv2d(y, weight, padding=(kernel[0] // 2, kernel[1] // 2))
        outputs.append(y.sigmoid())
    return [*outputs, (p[f"{name}.6.alpha"] * m + p[f"{name}.6.beta"]).sigmoid()]


def block(x, p, name):
    """x·(A_c + A_s)/2 + x, where every edge is the sum of its seven operations, weighted by softmax(alpha)."""
    rows = dict(zip(EDGES, p[ALPHA].softmax(1), strict=True))

    def mix(edge, outputs):
        return sum(weight * y for weight, y in zip(rows[edge], outputs, strict=True))

    z = mix("channel_squeeze", squeezes(x, p, f"{name}.channel_squeeze", (2, 3)))
    mask = mix("channel_excite", channel_excites(z, p, f"{name}.channel_excite"))
    gate = mix("channel_gate", channel_excites(z, p, f"{name}.channel_gate"))
    attended, plain = (
        mix(edge, squeezes(of, p, f"{name}.{edge}", (1,)))
        for edge, of in (("spatial_squeeze_gated", gate * x), ("spatial_squeeze_input", x))
    )
    first, second = p[f"{name}.mix.weight"].flatten()
    m = F.relu(batch_norm(first * attended + second * plain))
    return x * (mask + mix("spatial_excite", spatial_excites(m, p, f"{name}.spatial_excite"))) / 2 + x


def network(p, x):
    """ResNet-20 for CIFAR: three stages of three basic blocks, with the attention behind the last norm of each."""
    x = F.relu(batch_norm(F.conv2d(x, p["conv1.weight"], padding=1), p, "bn1"))
    for stage in (1, 2, 3):
        for place in range(3):
            name = f"layer{stage}.{place}"
            stride = 2 if stage > 1 and place == 0 else 1
            y = F.relu(batch_norm(F.conv2d(x, p[f"{name}.conv1.weight"], stride=stride, padding=1), p, f"{name}.bn1"))
            y = batch_norm(F.conv2d(y, p[f"{name}.conv2.weight"], padding=1), p, f"{name}.bn2.host")
            y = block(y, p, f"{name}.bn2.attn")
            if f"{name}.downsample.0.weight" in p:
                x = batch_norm(F.conv2d(x, p[f"{name}.downsample.0.weight"], stride=stride), p, f"{name}.downsample.1")
            x = F.relu(x + y)
    return x.mean((2, 3)) @ p["fc.weight"].T + p["fc.bias"]


class ReleaseSearch:
    """Bilevel steps as in the release's script.

    Args:
        values: weights and alpha by name; they are copied.
        unrolled: use the second order, by a difference of gradients at w ± v·1e-2/‖v‖.
        still: prefix of the names of weights that take no virtual step.
    """

    def __init__(self, values, *, unrolled, still=None, lr=0.025):
        self.values = {name: value.detach().clone() for name, value in values.items()}
        self.unrolled, self.still, self.lr = unrolled, still, lr
        self.buffers = {name: torch.zeros_like(value) for name, value in self.values.items() if name != ALPHA}
        self.first = self.second = torch.zeros_like(self.values[ALPHA])
        self.steps = 0

    def gradients(self, values, batch):
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        loss = F.cross_entropy(network(leaves, batch[0]), batch[1])
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    def alpha_gradient(self, train, val):
        if not self.unrolled:
            return self.gradients(self.values, val)[ALPHA]
        found = self.gradients(self.values, train)
        moved = {
            name: value
            if name == ALPHA or (self.still is not None and name.startswith(self.still))
            else value - self.lr * (0.9 * self.buffers[name] + found[name] + 5e-4 * value)
            for name, value in self.values.items()
        }
        v = self.gradients(moved, val)
        first = v.pop(ALPHA)
        epsilon = 1e-2 / torch.cat([value.flatten() for value in v.values()]).norm()
        sides = []
        for sign in (epsilon, -epsilon):
            at = {name: value if name == ALPHA else value + sign * v[name] for name, value in self.values.items()}
            sides.append(self.gradients(at, train)[ALPHA])
        return first - self.lr * (sides[0] - sides[1]) / (2 * epsilon)

    def step(self, train, val):
        """Adam on alpha (betas 0.5 and 0.999, weight decay 1e-3), then SGD on the weights, clipped to a norm of 5."""
        gradient = self.alpha_gradient(train, val) + 1e-3 * self.values[ALPHA]
        self.steps += 1
        self.first = 0.5 * self.first + 0.5 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient.square()
        mean, square = self.first / (1 - 0.5**self.steps), self.second / (1 - 0.999**self.steps)
        self.values[ALPHA] = self.values[ALPHA] - 3e-4 * mean / (square.sqrt() + 1e-8)
        found = self.gradients(self.values, train)
        del found[ALPHA]
        norm = torch.cat([value.flatten() for value in found.values()]).norm()
        for name, value in found.items():
            clipped = value * (5 / (norm + 1e-6)).clamp(max=1)
            self.buffers[name] = 0.9 * self.buffers[name] + clipped + 5e-4 * self.values[name]
            self.values[name] = self.values[name] - self.lr * self.buffers[name]
