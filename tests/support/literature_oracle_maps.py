"""Slow reference implementations of the attentions that weight positions, in the form of `literature_oracle.py`."""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
from literature_layers import (
    conv,
    conv_over_channels,
    gated,
    mlp,
    nearest,
    norm,
    over_channels,
    over_positions,
    scaled,
    softmax,
)
from literature_oracle import se
from oracle_math import indices, mean, relu, sigmoid, standardise


def cbam(x, p, training=False, prefix=""):
    """Channels by MLP(mean) + MLP(max), then positions by one convolution of [max, mean]."""
    x = gated(x, mlp(over_positions(x), p, prefix) + mlp(over_positions(x, max), p, prefix))
    maps = np.concatenate([over_channels(x, max), over_channels(x)], 1)
    return gated(x, norm(conv(maps, p, f"{prefix}conv"), p, f"{prefix}norm", training))


def bam(x, p, training=False, dilation=4):
    """1 + sigmoid(Mc·Ms)."""
    channel = conv(relu(norm(conv(over_positions(x), p, "fc1"), p, "norm1", training)), p, "fc2")
    spatial = relu(norm(conv(x, p, "reduce"), p, "norm2", training))
    spatial = relu(norm(conv(spatial, p, "conv1", dilation=dilation), p, "norm3", training))
    spatial = relu(norm(conv(spatial, p, "conv2", dilation=dilation), p, "norm4", training))
    spatial = conv(spatial, p, "expand")
    y = np.empty(x.shape)
    for b, c, h, w in indices(x):
        y[b, c, h, w] = x[b, c, h, w] * (1 + sigmoid(channel[b, c, 0, 0] * spatial[b, 0, h, w]))
    return y


def scse(x, p, training=False):
    """The larger of the two gated maps."""
    return np.maximum(se(x, p), gated(x, conv(x, p, "conv")))


def ean(x, p, training=False):
    """sigmoid(n·α·γ̂ + δ), n the instance norm with γ and β, γ̂ = γ/√(mean γ² + eps); groups share the parameters."""
    gamma, beta, alpha, delta = (p[name].reshape(-1) for name in ("weight", "bias", "alpha", "delta"))
    scale = math.sqrt(mean([value**2 for value in gamma]) + 1e-5)
    n = standardise(x, lambda b, c, h, w: (b, c))
    y = np.empty(x.shape)
    for b, c, h, w in indices(x):
        i = c % len(gamma)
        normed = n[b, c, h, w] * gamma[i] + beta[i]
        y[b, c, h, w] = x[b, c, h, w] * sigmoid(normed * alpha[i] * gamma[i] / scale + delta[i])
    return y


def psa(x, p, training=False):
    """Four convolutions of different kernels; the softmax over them of one SE weighs each channel."""
    branches = [conv(x, p, f"branches.{i}") for i in range(4)]
    scores = [sigmoid(mlp(over_positions(branch), p)) for branch in branches]
    gates = np.empty((4, *scores[0].shape))
    for b, c, _, _ in indices(scores[0]):
        for i, share in enumerate(softmax([score[b, c, 0, 0] for score in scores])):
            gates[i, b, c] = share
    return np.concatenate([scaled(branch, gate) for branch, gate in zip(branches, gates, strict=True)], 1)


def double_attention(x, p, training=False):
    """Gather: G[m, n] = Σ_q a[m, q]·softmax_q(b[n])[q]. Distribute: z[m, q] = Σ_n G[m, n]·softmax_n(v[:, q])[n]."""
    a, b_, v = (flat(conv(x, p, name)) for name in ("conv_a", "conv_b", "conv_v"))
    batch, width, positions = a.shape
    z = np.empty((batch, width, *x.shape[2:]))
    for b, q, m in product(range(batch), range(positions), range(width)):
        shares = softmax(list(v[b, :, q]))
        row = [math.fsum(np.multiply(a[b, m], softmax(list(b_[b, n])))) for n in range(width)]
        z[b, m].reshape(-1)[q] = math.fsum(np.multiply(row, shares))
    return x + conv(z, p, "expand")


def flat(x):
    return x.reshape(*x.shape[:2], -1)


def glam(x, p, training=False):
    """Softmax-weighted sum of the local attention, the global attention and the input."""
    weights = softmax(list(p["weights"]))
    return weights[0] * glam_local(x, p) + weights[1] * glam_global(x, p) + weights[2] * x


def glam_local(x, p):
    means = over_positions(x)[:, None, :, 0, 0]
    first = gated(x, conv_over_channels(means, p, "local_conv")) + x
    reduced = conv(x, p, "reduce")
    maps = [reduced, *(conv(reduced, p, f"dilated{d}", dilation=d) for d in (1, 2, 3))]
    return gated(first, conv(np.concatenate(maps, 1), p, "mix")) + first


def glam_global(x, p):
    """In both steps, each query gets the mean of the values, weighted by the softmax of its products with the keys."""
    means = over_positions(x)[:, None, :, 0, 0]
    query, key = (sigmoid(conv_over_channels(means, p, name))[:, :, 0, 0] for name in ("query_conv", "key_conv"))
    channels = np.empty(x.shape)
    for b, j in product(range(len(x)), range(x.shape[1])):
        shares = softmax([key_ * query[b, j] for key_ in key[b]])
        for h, w in np.ndindex(x.shape[2:]):
            channels[b, j, h, w] = math.fsum(np.multiply(shares, x[b, :, h, w]))
    first = x * channels + x
    query, key, value = (flat(conv(x, p, name)) for name in ("query", "key", "value"))
    batch, width, positions = value.shape
    gathered = np.empty(value.shape)
    for b, r in product(range(batch), range(positions)):
        shares = softmax([math.fsum(key[b, :, q] * query[b, :, r]) for q in range(positions)])
        for c in range(width):
            gathered[b, c, r] = math.fsum(np.multiply(shares, value[b, c]))
    return first * conv(gathered.reshape(batch, width, *x.shape[2:]), p, "expand") + first


def autola(x, p, training=False):
    """Four nodes from the four quarters of the channels, joined with an SE of their sum."""
    s1, s2, s3, s4 = np.split(x, 4, 1)

    def sepconv(v, name):
        return gated(v, separable(v, p, name, training))

    maps = np.concatenate([over_channels(s2, max), over_channels(s2)], 1)
    n1 = s1
    n2 = gated(s2, separable(maps, p, "sepgate", training)) + sepconv(n1, "sepconv_a")
    n3 = cbam(s3, p, training, "cbam.") + n2 + sepconv(n1, "sepconv_b")
    dilated = conv(conv(n2, p, "dilconv.dw1", dilation=2), p, "dilconv.pw1")
    n4 = sepconv(s4, "sepconv_c") + n1 + sepconv(n3, "sepconv_d")
    n4 = n4 + gated(n2, norm(dilated, p, "dilconv.norm1", training))
    joined = np.concatenate([n1, n2, n3, n4, se(s1 + s2 + s3 + s4, p, prefix="se_sum.")], 1)
    hidden = relu(norm(conv(joined, p, "tail.conv1"), p, "tail.norm1", training))
    return se(x + norm(conv(hidden, p, "tail.conv2"), p, "tail.norm2", training), p, prefix="se_out.")


def separable(v, p, name, training):
    """3x3 by channel, 1x1, BN, ReLU, 3x3 by channel, 1x1, BN."""
    hidden = norm(conv(conv(v, p, f"{name}.dw1"), p, f"{name}.pw1"), p, f"{name}.norm1", training)
    return norm(conv(conv(relu(hidden), p, f"{name}.dw2"), p, f"{name}.pw2"), p, f"{name}.norm2", training)


def spatially_adaptive_skip(target, source, p, training=False, groups=4, dilation=1, softmax_masks=False, noise=0.0):
    """target·(1 + Σ m_k·s_k/(Σ m_k + 1e-6)), group by group, with masks at the target's resolution."""
    logits, styles = [], []
    for part, of_group in by_group(source, p, groups):
        squeezed = conv(over_positions(part), of_group, "styles.fc1")
        if "styles.norm.weight" in p:
            squeezed = norm(squeezed, of_group, "styles.norm", training)
        styles.append(conv(relu(squeezed), of_group, "styles.fc2"))
        mask = part
        for layer, apart in ((0, 1), (3, dilation), (6, dilation)):
            mask = conv(mask, of_group, f"masks.{layer}", dilation=apart)
            mask = relu(norm(mask, of_group, f"masks.{layer + 1}", training))
        logits.append(nearest(conv(mask, of_group, "masks.9") + noise, *target.shape[2:]))
    y = np.empty(target.shape)
    for b, c, h, w in indices(y):
        here = [logit[b, 0, h, w] for logit in logits]
        if softmax_masks:
            shares = softmax(here)
        else:
            masks = [sigmoid(logit) for logit in here]
            shares = [mask / (math.fsum(masks) + 1e-6) for mask in masks]
        style = math.fsum(share * of[b, c, 0, 0] for share, of in zip(shares, styles, strict=True))
        y[b, c, h, w] = target[b, c, h, w] * (1 + style)
    return y


def spatial_sase(x, p, training=False):
    """Softmax over the channels of a group of q·k, times the group's convolution."""
    parts = []
    for part, of_group in by_group(x, p, x.shape[1] // p["value.weight"].shape[1]):
        query = conv(relu(norm(conv(part, of_group, "query.0"), of_group, "query.1", training)), of_group, "query.3")
        key = relu(norm(conv(over_positions(part), of_group, "key.0"), of_group, "key.1", training))
        logits, weights = scaled(query, conv(key, of_group, "key.3")), np.empty(query.shape)
        for b, h, w in product(range(len(x)), *map(range, x.shape[2:])):
            weights[b, :, h, w] = softmax(list(logits[b, :, h, w]))
        parts.append(scaled(conv(part, of_group, "value"), weights))
    return np.concatenate(parts, 1)


def spatial_sase_literal(x, p, training=False, **options):
    """The skip, where the map is the source, and its grouped convolution the target."""
    groups = len(p["masks.9.weight"])
    target = np.concatenate([conv(part, of_group, "value") for part, of_group in by_group(x, p, groups)], 1)
    return spatially_adaptive_skip(target, x, p, training, groups, **options)


def by_group(x, p, groups):
    """The channels of each group, and its parameters."""
    return [(part, GroupOf(p, k, groups)) for k, part in enumerate(np.split(x, groups, 1))]


class GroupOf(Mapping):
    """The parameters of one group of grouped layers: the rows of that group."""

    def __init__(self, p, group, groups):
        self.p, self.group, self.groups = p, group, groups

    def __getitem__(self, name):
        return np.split(self.p[name], self.groups)[self.group]

    def __contains__(self, name):
        return name in self.p

    def __iter__(self):
        return iter(self.p)

    def __len__(self):
        return len(self.p)
