"""Slow reference implementations of every operation and the block: in float64, in plain loops over b, c, h, w.

They are written from the formulas, and import nothing of the package. Maps are numpy arrays, followed by the parameters
in the order of the state dict; `training` normalises by the statistics of the batch.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
from oracle_math import (
    batch_norm,
    bilinear,
    grouped,
    indices,
    l2,
    l4,
    l4_mean,
    mean,
    moment,
    per_channel,
    relu,
    segments,
    sigmoid,
    skewness,
    standardise,
    std,
)

# Squeezes.


def over(key: Callable):
    """Squeeze the elements with the same `key(b, c, h, w)` to one number, whose index in the result is that key."""

    def reduction(statistic):
        def squeeze(x, training=False):
            groups = grouped(x, key)
            y = np.empty([max(index[axis] for index in groups) + 1 for axis in range(4)])
            for index, values in groups.items():
                y[index] = statistic(values)
            return y

        return squeeze

    return reduction


over_positions = over(lambda b, c, h, w: (b, c, 0, 0))
over_channels = over(lambda b, c, h, w: (b, 0, h, w))


def mixed(over, statistic):
    """ReLU(w₀·mean + w₁·statistic)."""

    def squeeze(x, mixer, training=False):
        w0, w1 = mixer.reshape(2)
        return relu(w0 * over(mean)(x) + w1 * over(statistic)(x))

    return squeeze


def second_order(rows, weight, bias, running_mean, running_var, row_weights, fc, divisor, training):
    """Rows (B, N, M) → covariance / divisor → norm per row → weighted sum per row → ReLU → linear: (B, outputs)."""
    batch, n, m = rows.shape
    centred = np.empty(rows.shape)
    for b, i, k in indices(rows):
        centred[b, i, k] = rows[b, i, k] - mean(rows[b, i])
    covariance = np.empty((batch, n, n, 1))
    for b, i, j in product(range(batch), range(n), range(n)):
        covariance[b, i, j, 0] = math.fsum(centred[b, i, k] * centred[b, j, k] for k in range(m)) / divisor
    covariance = batch_norm(covariance, weight, bias, running_mean, running_var, training)
    y = np.zeros((batch, len(fc)))
    for b, i in product(range(batch), range(n)):
        hidden = relu(math.fsum(row_weights[i, 0, j, 0] * covariance[b, i, j, 0] for j in range(n)))
        for o in range(len(fc)):
            y[b, o] += fc[o, i, 0, 0] * hidden
    return y


def channel_gsop(divisor: Callable):
    """Second-order pooling of the channels, averaged to C/4 rows; `divisor(rows, samples)` divides the covariance."""

    def squeeze(x, *params, training=False):
        batch, channels, height, width = x.shape
        parts = segments(channels, max(1, channels // 4))
        rows = np.empty((batch, len(parts), height * width))
        for b, i, h, w in product(range(batch), range(len(parts)), range(height), range(width)):
            rows[b, i, h * width + w] = mean([x[b, c, h, w] for c in parts[i]])
        y = second_order(rows, *params, divisor(len(parts), height * width), training)
        return y.reshape(batch, channels, 1, 1)

    return squeeze


def spatial_gsop(divisor: Callable):
    """Second-order pooling of the positions, averaged to 8x8 rows; the 64 results are resized to H, W by adaptive
    averaging."""

    def squeeze(x, *params, training=False):
        batch, channels, height, width = x.shape
        rows = np.empty((batch, 64, channels))
        cells = list(product(segments(height, 8), segments(width, 8)))
        for b, c, i in product(range(batch), range(channels), range(64)):
            rows[b, i, c] = mean([x[b, c, h, w] for h, w in product(*cells[i])])
        small = second_order(rows, *params, divisor(64, channels), training).reshape(batch, 8, 8)
        y = np.empty((batch, 1, height, width))
        for b, (h, rows_), (w, columns) in product(
            range(batch), enumerate(segments(8, height)), enumerate(segments(8, width))
        ):
            y[b, 0, h, w] = mean([small[b, i, j] for i, j in product(rows_, columns)])
        return y

    return squeeze


def channel_l2(group_size: Callable):
    """Standardise over H, W and `group_size(C)` channels, affine per channel, L2 over H, W."""

    def squeeze(x, weight, bias, training=False):
        size = group_size(x.shape[1])
        y = standardise(x, lambda b, c, h, w: (b, c // size))
        return over_positions(l2)(per_channel(y, weight, bias))

    return squeeze


def largest_group(channels):
    """The largest divisor of `channels` from 2 to 16, otherwise `channels`."""
    return max([size for size in range(2, 17) if channels % size == 0], default=channels)


def spatial_l2(x, weight, bias, training=False):
    """Standardise each channel over H, W, affine per position, L2 over C."""
    weight, bias = (bilinear(value, x.shape[2], x.shape[3]) for value in (weight, bias))
    return over_channels(l2)(standardise(x, lambda b, c, h, w: (b, c)) * weight + bias)


def spatial_l2_channel(x, weight, bias, training=False):
    """Standardise each position over C, affine per channel, L2 over C."""
    y = standardise(x, lambda b, c, h, w: (b, h, w))
    return over_channels(l2)(per_channel(y, weight, bias))


# Excitations.


def fc(z, first, second, training=False):
    y = np.empty(z.shape)
    for b in range(len(z)):
        hidden = [relu(math.fsum(row[c, 0, 0] * z[b, c, 0, 0] for c in range(z.shape[1]))) for row in first]
        for c in range(z.shape[1]):
            y[b, c, 0, 0] = math.fsum(second[c, i, 0, 0] * hidden[i] for i in range(len(hidden)))
    return y


def correlate(m, kernel):
    """The convolution of (B, 1, H, W) by one kernel (1, 1, kh, kw), with zero padding."""
    kernel = kernel[0, 0]
    y = np.zeros(m.shape)
    for (b, _, h, w), (i, j) in product(indices(m), indices(kernel)):
        row, column = h + i - kernel.shape[0] // 2, w + j - kernel.shape[1] // 2
        if 0 <= row < m.shape[2] and 0 <= column < m.shape[3]:
            y[b, 0, h, w] += kernel[i, j] * m[b, 0, row, column]
    return y


def conv2d(m, *kernels, between=relu, training=False):
    y = correlate(m, kernels[0])
    for kernel in kernels[1:]:
        y = correlate(between(y), kernel)
    return sigmoid(y)


def conv1d(z, *kernels, training=False):
    """Convolutions along the channels, which are treated as a map of one row."""
    row = z.reshape(len(z), 1, 1, -1)
    return conv2d(row, *(kernel[:, :, None] for kernel in kernels)).reshape(z.shape)


def separable(m, *kernels, training=False):
    return conv2d(m, *kernels, between=lambda value: value)


def channel_affine(z, alpha, beta, training=False):
    return sigmoid(per_channel(z, alpha.reshape(-1), beta.reshape(-1)))


def spatial_affine(m, alpha, beta, training=False):
    alpha, beta = (bilinear(value[0], m.shape[2], m.shape[3]) for value in (alpha, beta))
    return sigmoid(alpha * m + beta)


def _squeezes(over):
    return {
        "gap": over(mean),
        "l4": over(l4),
        "l4_mean": over(l4_mean),
        "gap_gmp": mixed(over, max),
        "gap_std": mixed(over, std),
        "gap_skew": mixed(over, lambda values: moment(values, 3)),
        "gap_skewness": mixed(over, skewness),
    }


OPS: dict[str, dict[str, Callable]] = {
    "channel_squeeze": _squeezes(over_positions)
    | {
        "gsop": channel_gsop(lambda rows, samples: max(1, rows - 1)),
        "gsop_sample": channel_gsop(lambda rows, samples: samples),
        "l2norm": channel_l2(lambda channels: 1),
        "l2norm_group": channel_l2(largest_group),
    },
    "spatial_squeeze": _squeezes(over_channels)
    | {
        "gsop": spatial_gsop(lambda rows, samples: 63),
        "gsop_sample": spatial_gsop(lambda rows, samples: samples),
        "l2norm": spatial_l2,
        "l2norm_channel": spatial_l2_channel,
    },
    "channel_excite": {
        "fc": fc,
        "fc_sigmoid": lambda z, *params, training=False: sigmoid(fc(z, *params)),
        "affine": channel_affine,
    }
    | dict.fromkeys(("conv1d_k3", "conv1d_k5", "conv1d_k7", "conv1d_k3_x2", "conv1d_k3_x3"), conv1d),
    "spatial_excite": {"sep_k3": separable, "sep_k5": separable, "affine": spatial_affine}
    | dict.fromkeys(("conv2d_k3", "conv2d_k5", "conv2d_k7", "conv2d_k3_x2"), conv2d),
}


def block(x, ops: dict[str, Callable], params: dict[str, list], fuse, norm: list, residual: bool, training=False):
    """The block: `ops` and `params` by edge, weights `fuse` of [gated, input], `norm` the arguments of `batch_norm`."""

    def apply(edge, value):
        return ops[edge](value, *params[edge], training=training)

    squeezed = apply("channel_squeeze", x)
    channel, inner = apply("channel_excite", squeezed), apply("channel_gate", squeezed)
    gated = np.empty(x.shape)
    for b, c, h, w in indices(x):
        gated[b, c, h, w] = inner[b, c, 0, 0] * x[b, c, h, w]
    fused = fuse[0] * apply("spatial_squeeze_gated", gated) + fuse[1] * apply("spatial_squeeze_input", x)
    spatial = apply("spatial_excite", relu(batch_norm(fused, *norm, training)))
    y = np.empty(x.shape)
    for b, c, h, w in indices(x):
        y[b, c, h, w] = x[b, c, h, w] * ((channel[b, c, 0, 0] + spatial[b, 0, h, w]) / 2 + residual)
    return y
