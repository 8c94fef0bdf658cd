"""Shared by the oracles of the literature's attentions: convolutions, norms, pools and softmaxes, in plain loops.

`p` maps the names of a state dict to float64 arrays. A layer is given by its name there, and has a bias if `p` has one.
"""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
from oracle_math import batch_norm, grouped, indices, mean, relu, sigmoid

Params = Mapping[str, np.ndarray]


def conv(x, p: Params, name: str, stride: int = 1, dilation: int = 1):
    """A convolution with an odd kernel, zero padding, and output ⌈size/stride⌉; the groups follow from the shapes."""
    weight = p[f"{name}.weight"]
    bias = p[f"{name}.bias"] if f"{name}.bias" in p else np.zeros(len(weight))
    outputs, inputs, kh, kw = weight.shape
    batch, channels, height, width = x.shape
    per_group = outputs // (channels // inputs)
    y = np.empty((batch, outputs, -(-height // stride), -(-width // stride)))
    for b, o, h, w in indices(y):
        terms = [bias[o]]
        for i, j in product(range(kh), range(kw)):
            row, column = h * stride + (i - kh // 2) * dilation, w * stride + (j - kw // 2) * dilation
            if 0 <= row < height and 0 <= column < width:
                first = o // per_group * inputs
                terms += [weight[o, c, i, j] * x[b, first + c, row, column] for c in range(inputs)]
        y[b, o, h, w] = math.fsum(terms)
    return y


def conv_over_channels(rows, p: Params, name: str):
    """A convolution of (B, R, C) by one kernel (1, R, k) along the channels, with zero padding: (B, C, 1, 1)."""
    weight = p[f"{name}.weight"][0]
    bias = p[f"{name}.bias"][0] if f"{name}.bias" in p else 0.0
    batch, _, channels = rows.shape
    y = np.empty((batch, channels, 1, 1))
    for b, c in product(range(batch), range(channels)):
        reach = [(r, i, c + i - weight.shape[1] // 2) for r, i in indices(weight)]
        y[b, c] = math.fsum([bias, *(weight[r, i] * rows[b, r, j] for r, i, j in reach if 0 <= j < channels)])
    return y


def norm(x, p: Params, name: str, training: bool):
    """Batch normalisation."""
    values = (p[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
    return batch_norm(x, *values, training)


def over_positions(x, statistic=mean):
    """(B, C, 1, 1): the statistic of each channel."""
    y = np.empty((*x.shape[:2], 1, 1))
    for (b, c), values in grouped(x, lambda b, c, h, w: (b, c)).items():
        y[b, c] = statistic(values)
    return y


def over_channels(x, statistic=mean):
    """(B, 1, H, W): the statistic of each position."""
    y = np.empty((len(x), 1, *x.shape[2:]))
    for (b, h, w), values in grouped(x, lambda b, c, h, w: (b, h, w)).items():
        y[b, 0, h, w] = statistic(values)
    return y


def softmax(values):
    """The softmax of a list of numbers."""
    exponentials = [math.exp(value - max(values)) for value in values]
    return [value / math.fsum(exponentials) for value in exponentials]


def mlp(z, p: Params, prefix: str = ""):
    """fc1, ReLU, fc2: 1x1 convolutions."""
    return conv(relu(conv(z, p, f"{prefix}fc1")), p, f"{prefix}fc2")


def gated(x, logits):
    """x·sigmoid(logits), where the logits may have one row, one column or one channel for the whole map."""
    return scaled(x, sigmoid(logits))


def scaled(x, gate):
    """x·gate, where an axis of length 1 of the gate is broadcast."""
    assert all(size in (1, whole) for size, whole in zip(gate.shape, x.shape, strict=True))
    y = np.empty(x.shape)
    for index in indices(x):
        y[index] = x[index] * gate[tuple(i % size for i, size in zip(index, gate.shape, strict=True))]
    return y


def nearest(y, height: int, width: int):
    """(B, C, h, w) resized by nearest neighbours: element ⌊i·h/H⌋."""
    resized = np.empty((*y.shape[:2], height, width))
    for b, c, h, w in indices(resized):
        resized[b, c, h, w] = y[b, c, h * y.shape[2] // height, w * y.shape[3] // width]
    return resized
