"""Slow reference implementations of the attentions with one gate per channel, and of gather-excite.

Every function accepts the map, the state dict as float64 arrays, and `training`, which normalises by the statistics of
the batch. All are written from the formulas, and import nothing of the package. `literature_oracle_maps.py` has the
other attentions.
"""

import math
from itertools import product

import numpy as np
from literature_layers import conv, conv_over_channels, gated, mlp, nearest, norm, over_positions, scaled
from oracle_math import EPS, bilinear, indices, mean, moment, relu, sigmoid, standardise, std


def se(x, p, training=False, prefix=""):
    return gated(x, mlp(over_positions(x), p, prefix))


def eca(x, p, training=False):
    return gated(x, conv_over_channels(over_positions(x)[:, None, :, 0, 0], p, "conv"))


def mca_e(x, p, training=False):
    """Moments 1 and 2: mean, biased standard deviation."""
    return moments_of_channels(x, p, lambda values: math.sqrt(moment(values, 2)))


def mca_s(x, p, training=False):
    """Moments 1 and 3: mean, E[(x - μ)³]/(σ³ + eps)."""
    return moments_of_channels(x, p, lambda values: moment(values, 3) / (moment(values, 2) ** 1.5 + EPS))


def moments_of_channels(x, p, statistic):
    rows = [over_positions(x)[:, :, 0, 0], over_positions(x, statistic)[:, :, 0, 0]]
    return gated(x, conv_over_channels(np.stack(rows, 1), p, "conv"))


def srm(x, p, training=False):
    """BN(w₀·mean + w₁·std), std = √(unbiased variance + eps)."""
    means, deviations = over_positions(x), over_positions(x, lambda values: math.sqrt(std(values) ** 2 + EPS))
    z = np.empty(means.shape)
    for b, c, _, _ in indices(z):
        z[b, c] = p["weight"][c, 0] * means[b, c, 0, 0] + p["weight"][c, 1] * deviations[b, c, 0, 0]
    return gated(x, norm(z, p, "norm", training))


def gct_gaussian(x, p, training=False):
    """exp(-z²/(2c²)), where z are the channel means, standardised over C, and c = 3·sigmoid(θ) + 1, or 2 without θ."""
    c = 3 * sigmoid(p["theta"][0]) + 1 if "theta" in p else 2.0
    z = standardise(over_positions(x), lambda b, channel, h, w: (b,))
    return scaled(x, np.exp(-(z**2) / (2 * c**2)))


def gct_gated(x, p, training=False):
    """1 + tanh(γ·s/√(mean s² + eps) + β), s = α·√(Σx² + eps)."""
    alpha, beta, gamma = (p[name].reshape(-1) for name in ("alpha", "beta", "gamma"))
    sums = over_positions(x, lambda values: math.fsum(value**2 for value in values))
    gate = np.empty(sums.shape)
    for b in range(len(x)):
        s = [alpha[c] * math.sqrt(sums[b, c, 0, 0] + EPS) for c in range(x.shape[1])]
        scale = math.sqrt(mean([value**2 for value in s]) + EPS)
        for c, value in enumerate(s):
            gate[b, c] = 1 + math.tanh(gamma[c] * value / scale + beta[c])
    return scaled(x, gate)


def gsop(x, p, training=False, stride=1):
    """Covariance/M of the reduced channels over the M positions; then four weighted sums of each normalised row."""
    reduced = relu(norm(conv(relu(x), p, "reduce", stride), p, "norm1", training))
    batch, n, height, width = reduced.shape
    rows = reduced.reshape(batch, n, height * width)
    covariance = np.empty((batch, n, n, 1))
    for b, i, j in product(range(batch), range(n), range(n)):
        first, second = mean(rows[b, i]), mean(rows[b, j])
        covariance[b, i, j] = mean([(u - first) * (v - second) for u, v in zip(rows[b, i], rows[b, j], strict=True)])
    covariance = norm(covariance, p, "norm2", training)
    weight, bias = p["row_conv.weight"].reshape(4 * n, n), p["row_conv.bias"]
    hidden = np.empty((batch, 4 * n, 1, 1))
    for b, o, _, _ in indices(hidden):
        hidden[b, o] = bias[o] + math.fsum(weight[o, j] * covariance[b, o // 4, j, 0] for j in range(n))
    return gated(x, conv(hidden, p, "expand"))


def gc(x, p, training=False, eps=1e-6):
    """x + MLP(Σ_p softmax_p(w·x_p + b)·x_p), the MLP with a LayerNorm before its ReLU."""
    context = attention_pool(x, conv(x, p, "conv_attn"))
    hidden = conv(context, p, "mlp_add.fc1")
    for b in range(len(x)):
        values = list(hidden[b, :, 0, 0])
        centre, scale = mean(values), math.sqrt(moment(values, 2) + eps)
        for c, value in enumerate(values):
            hidden[b, c] = (value - centre) / scale * p["mlp_add.norm.weight"][c] + p["mlp_add.norm.bias"][c]
    added = conv(relu(hidden), p, "mlp_add.fc2")
    y = np.empty(x.shape)
    for b, c, h, w in indices(x):
        y[b, c, h, w] = x[b, c, h, w] + added[b, c, 0, 0]
    return y


def attention_pool(x, logits):
    """(B, C, 1, 1): the channels' means, weighted by the softmax of the logits over the positions."""
    y = np.empty((*x.shape[:2], 1, 1))
    for b, c in product(range(len(x)), range(x.shape[1])):
        weights = np.exp(logits[b, 0] - logits[b, 0].max())
        terms = [weights[h, w] * x[b, c, h, w] for h, w in indices(weights)]
        y[b, c] = math.fsum(terms) / math.fsum(weights.reshape(-1))
    return y


def tiled_se(x, p, training=False, tile=(7, None)):
    """SE of each tile of kh x kw positions (None: the whole side); the last ones may be partial."""
    _, _, height, width = x.shape
    kh, kw = (side or size for side, size in zip(tile, (height, width), strict=True))
    y = np.empty(x.shape)
    for top, left in product(range(0, height, kh), range(0, width, kw)):
        area = (..., slice(top, top + kh), slice(left, left + kw))
        y[area] = se(x[area], p)
    return y


def ge_theta_minus(x, p, training=False, extent=None):
    """Means of windows of 2·extent - 1, `extent` apart, centred on multiples of it, over what lies in the map."""
    if extent is None:
        return gated(x, over_positions(x))
    batch, channels, height, width = x.shape
    pooled = np.empty((batch, channels, math.ceil(height / extent), math.ceil(width / extent)))
    for b, c, h, w in indices(pooled):
        rows = [i for i in range(height) if abs(i - h * extent) < extent]
        columns = [j for j in range(width) if abs(j - w * extent) < extent]
        pooled[b, c, h, w] = mean([x[b, c, i, j] for i, j in product(rows, columns)])
    return gated(x, nearest(pooled, height, width))


def gathered(x, p, training, extent):
    """θ: a depthwise kernel as large as the map, or log₂ extent strided depthwise convolutions; BN after each."""
    if extent is not None:
        steps = int(math.log2(extent))
        for i in range(steps):
            x = norm(conv(x, p, f"gather.{3 * i}", stride=2), p, f"gather.{3 * i + 1}", training)
            x = relu(x) if i < steps - 1 else x
        return x
    _, _, height, width = x.shape
    y = np.empty((*x.shape[:2], 1, 1))
    for b, c, _, _ in indices(y):
        own = p["gather.0.weight"][c]
        kernel = bilinear(own, height, width) * own.size / (height * width)
        y[b, c] = math.fsum((kernel * x[b, c]).reshape(-1))
    return norm(y, p, "gather.1", training)


def ge_theta(x, p, training=False, extent=None):
    return gated(x, nearest(gathered(x, p, training, extent), *x.shape[2:]))


def ge_theta_plus(x, p, training=False, extent=None):
    return gated(x, nearest(mlp(gathered(x, p, training, extent), p), *x.shape[2:]))
