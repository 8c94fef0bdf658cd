"""A slow reference implementation of inference in mmdetection's Faster and Mask R-CNN (versions 2 and 3), in float64.

It is written from mmdetection's formulas, uses nothing of torchvision, and of torch only convolutions and matrix
products.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

STRIDES = (4, 8, 16, 32, 64)


def detect(
    image,
    weights,
    body,
    *,
    shorter,
    longest,
    mean,
    std,
    scale=8,
    ratios=(0.5, 1.0, 2.0),
    proposals=1000,
    rpn_iou=0.7,
    score=0.05,
    iou=0.5,
    most=100,
):
    """Boxes, scores and labels from 0, and full-size masks if there is a mask head, in the image's pixels.

    `weights` are float64, by mmdetection's names, without those of the backbone, which is the function `body`.
    """
    height, width = image.shape[1:]
    resized = resize(image, shorter, longest)
    inner = resized.shape[1:]
    normalised = (np.rint(resized * 255) - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    padded = np.zeros((3, *(math.ceil(side / 32) * 32 for side in inner)))
    padded[:, : inner[0], : inner[1]] = normalised
    levels = pyramid([each.numpy()[0] for each in body(torch.from_numpy(padded)[None])], weights)
    regions = propose(levels, weights, inner, scale, ratios, proposals, rpn_iou)
    pooled = np.stack([pool(levels, region, 7) for region in regions]).reshape(len(regions), -1)
    hidden = pooled
    for layer in ("shared_fcs.0", "shared_fcs.1"):
        hidden = np.maximum(linear(hidden, weights, f"roi_head.bbox_head.{layer}"), 0)
    logits = linear(hidden, weights, "roi_head.bbox_head.fc_cls")
    differences = linear(hidden, weights, "roi_head.bbox_head.fc_reg")
    exponent = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponent / exponent.sum(1, keepdims=True)
    found = []
    for label in range(logits.shape[1] - 1):  # the last is the background
        boxes = np.array(
            [
                decode(region, difference * (0.1, 0.1, 0.2, 0.2), inner)
                for region, difference in zip(regions, differences[:, 4 * label : 4 * label + 4], strict=True)
            ]
        )
        chances = probabilities[:, label]
        above = np.flatnonzero(chances > score)
        found += [
            (chances[above][kept], label, boxes[above][kept]) for kept in suppress(boxes[above], chances[above], iou)
        ]
    found = sorted(found, key=lambda each: -each[0])[:most]
    boxes = np.array([each[2] for each in found]).reshape(-1, 4)
    scaled = boxes / np.array([inner[1] / width, inner[0] / height] * 2)
    result = {
        "boxes": scaled,
        "scores": np.array([each[0] for each in found]),
        "labels": np.array([each[1] for each in found], dtype=int),
    }
    if "roi_head.mask_head.conv_logits.weight" in weights:
        result["masks"] = np.array(
            [
                paste(mask(levels, box, label, weights), small, height, width)
                for (_, label, box), small in zip(found, scaled, strict=True)
            ]
        )
    return result


def resize(image, shorter, longest):
    height, width = image.shape[1:]
    factor = min(longest / max(height, width), shorter / min(height, width))
    new = int(height * factor + 0.5), int(width * factor + 0.5)
    result = np.empty((len(image), *new))
    for row in range(new[0]):
        for column in range(new[1]):
            y = min(max((row + 0.5) * height / new[0] - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / new[1] - 0.5, 0), width - 1)
            result[:, row, column] = bilinear(image, y, x)
    return result


def bilinear(values, y, x):
    """Values of a map at (y, x), interpolated bilinearly; the position must lie in the map."""
    top, left = int(y), int(x)
    below, right = min(top + 1, values.shape[1] - 1), min(left + 1, values.shape[2] - 1)
    down, across = y - top, x - left
    upper = values[:, top, left] * (1 - across) + values[:, top, right] * across
    lower = values[:, below, left] * (1 - across) + values[:, below, right] * across
    return upper * (1 - down) + lower * down


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def convolve(x, weights, name):
    weight = torch.from_numpy(weights[f"{name}.weight"])
    bias = torch.from_numpy(weights[f"{name}.bias"])
    return F.conv2d(torch.from_numpy(x)[None], weight, bias, padding=weight.shape[-1] // 2)[0].numpy()


def pyramid(maps, weights):
    sums = [convolve(each, weights, f"neck.lateral_convs.{level}.conv") for level, each in enumerate(maps)]
    for level in range(len(maps) - 1, 0, -1):
        high, low = sums[level], sums[level - 1]
        rows = np.arange(low.shape[1]) * high.shape[1] // low.shape[1]
        columns = np.arange(low.shape[2]) * high.shape[2] // low.shape[2]
        sums[level - 1] = low + high[:, rows][:, :, columns]
    levels = [convolve(each, weights, f"neck.fpn_convs.{level}.conv") for level, each in enumerate(sums)]
    return [*levels, levels[-1][:, ::2, ::2]]


def propose(levels, weights, inner, scale, ratios, most, iou):
    found = []
    for level, each in enumerate(levels):
        hidden = np.maximum(convolve(each, weights, "rpn_head.rpn_conv"), 0)
        chances = 1 / (1 + np.exp(-convolve(hidden, weights, "rpn_head.rpn_cls")))
        differences = convolve(hidden, weights, "rpn_head.rpn_reg")
        of_level = []
        for row in range(each.shape[1]):
            for column in range(each.shape[2]):
                for number, ratio in enumerate(ratios):
                    side = scale * STRIDES[level]
                    half_width, half_height = side / math.sqrt(ratio) / 2, side * math.sqrt(ratio) / 2
                    x, y = column * STRIDES[level], row * STRIDES[level]
                    anchor = (x - half_width, y - half_height, x + half_width, y + half_height)
                    difference = differences[4 * number : 4 * number + 4, row, column]
                    of_level.append((chances[number, row, column], decode(anchor, difference, inner)))
        of_level.sort(key=lambda pair: -pair[0])
        of_level = [pair for pair in of_level[:most] if pair[1][2] > pair[1][0] and pair[1][3] > pair[1][1]]
        boxes, scores = np.array([box for _, box in of_level]), np.array([chance for chance, _ in of_level])
        found += [(scores[kept], boxes[kept]) for kept in suppress(boxes, scores, iou)]
    return [box for _, box in sorted(found, key=lambda pair: -pair[0])[:most]]


def decode(box, difference, inner):
    bound = abs(math.log(16 / 1000))
    x, y, width, height = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    x, y = x + width * difference[0], y + height * difference[1]
    width *= math.exp(min(max(difference[2], -bound), bound))
    height *= math.exp(min(max(difference[3], -bound), bound))
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return tuple(min(max(value, 0), inner[1 - place % 2]) for place, value in enumerate(corners))


def suppress(boxes, scores, iou):
    """Indices of the boxes that non-maximum suppression keeps, the best first."""
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[place], boxes[other]) <= iou for other in kept):
            kept.append(place)
    return kept


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-6)


def pool(levels, box, bins):
    """RoIAlign, aligned, with ceil(cells per bin) samples, on the level that suits the box's size."""
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    level = min(max(math.floor(math.log2(size / 56 + 1e-6)), 0), 3)
    values = levels[level]
    x0, y0, x1, y1 = (side / STRIDES[level] - 0.5 for side in box)
    down, across = math.ceil((y1 - y0) / bins), math.ceil((x1 - x0) / bins)
    result = np.zeros((len(values), bins, bins))
    for i in range(bins):
        for j in range(bins):
            for a in range(down):
                for b in range(across):
                    y = y0 + (y1 - y0) / bins * (i + (a + 0.5) / down)
                    x = x0 + (x1 - x0) / bins * (j + (b + 0.5) / across)
                    if -1 <= y <= values.shape[1] and -1 <= x <= values.shape[2]:
                        y, x = min(max(y, 0), values.shape[1] - 1), min(max(x, 0), values.shape[2] - 1)
                        result[:, i, j] += bilinear(values, y, x) / (down * across)
    return result


def mask(levels, box, label, weights):
    x = pool(levels, box, 14)
    layer = 0
    while f"roi_head.mask_head.convs.{layer}.conv.weight" in weights:
        x = np.maximum(convolve(x, weights, f"roi_head.mask_head.convs.{layer}.conv"), 0)
        layer += 1
    up = torch.from_numpy(weights["roi_head.mask_head.upsample.weight"])
    bias = torch.from_numpy(weights["roi_head.mask_head.upsample.bias"])
    x = np.maximum(F.conv_transpose2d(torch.from_numpy(x)[None], up, bias, stride=2)[0].numpy(), 0)
    return 1 / (1 + np.exp(-convolve(x, weights, "roi_head.mask_head.conv_logits")[label]))


def paste(small, box, height, width):
    """The mask, interpolated between its cells' centres at the centres of the image's pixels, with 0 around it; as
    whether each value is above a half."""
    around = np.pad(small, 1)[None]
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * len(small) - 0.5
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * len(small) - 0.5
            if -1 < y < len(small) and -1 < x < len(small):
                result[row, column] = bilinear(around, y + 1, x + 1)[0]
    return result
