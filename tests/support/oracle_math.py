"""Helpers of `oracle.py`: statistics of a list of numbers, and loops over maps, in float64."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

EPS = 1e-5


# Statistics of a list of numbers.


def mean(values):
    return math.fsum(values) / len(values)


def moment(values, order):
    centre = mean(values)
    return mean([(value - centre) ** order for value in values])


def std(values):
    return math.sqrt(moment(values, 2) * len(values) / (len(values) - 1)) if len(values) > 1 else 0.0


def skewness(values):
    return moment(values, 3) / (moment(values, 2) + EPS) ** 1.5


def l4(values):
    return math.fsum(value**4 for value in values) ** 0.25


def l4_mean(values):
    return mean([value**4 for value in values]) ** 0.25


def l2(values):
    return math.sqrt(math.fsum(value**2 for value in values))


# Functions of a map.


def relu(x):
    return np.maximum(x, 0.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def indices(x) -> Iterator[tuple[int, ...]]:
    return product(*(range(length) for length in x.shape))


def grouped(x, key: Callable) -> dict[tuple[int, ...], list[float]]:
    """The elements of x, grouped by `key(b, c, h, w)`."""
    groups: dict[tuple[int, ...], list[float]] = {}
    for index in indices(x):
        groups.setdefault(key(*index), []).append(x[index])
    return groups


def standardise(x, key: Callable):
    """(x - μ)/√(σ² + eps) over the elements that share `key(b, c, h, w)`; biased σ²."""
    moments = {k: (mean(values), moment(values, 2)) for k, values in grouped(x, key).items()}
    y = np.empty(x.shape)
    for index in indices(x):
        centre, variance = moments[key(*index)]
        y[index] = (x[index] - centre) / math.sqrt(variance + EPS)
    return y


def per_channel(x, weight, bias):
    y = np.empty(x.shape)
    for b, c, h, w in indices(x):
        y[b, c, h, w] = x[b, c, h, w] * weight[c] + bias[c]
    return y


def batch_norm(x, weight, bias, running_mean, running_var, training):
    """Batch norm of (B, C, H, W), with one scale and shift per channel."""
    if training:
        return per_channel(standardise(x, lambda b, c, h, w: (c,)), weight, bias)
    scale = weight / np.sqrt(running_var + EPS)
    return per_channel(x, scale, bias - running_mean * scale)


def segments(size, parts):
    """Elements of part i in adaptive average pooling: ⌊i·size/parts⌋ … ⌈(i+1)·size/parts⌉ - 1."""
    return [range(math.floor(i * size / parts), math.ceil((i + 1) * size / parts)) for i in range(parts)]


def bilinear(weight, height, width):
    """(h, w) resized with half-pixel centres, clamped at the borders; the same where the sizes agree."""

    def taps(i, old, new):
        position = max((i + 0.5) * old / new - 0.5, 0.0)
        low = math.floor(position)
        return ((low, 1 - (position - low)), (min(low + 1, old - 1), position - low))

    y = np.zeros((height, width))
    for h, w in product(range(height), range(width)):
        for (i, a), (j, b) in product(taps(h, weight.shape[0], height), taps(w, weight.shape[1], width)):
            y[h, w] += a * b * weight[i, j]
    return y
