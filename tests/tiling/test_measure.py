"""`buffering` against the paper's numbers and against counts by hand from the published architectures."""

import json

import pytest
import timm
import torch
from torch import Tensor, nn

from sase_attn.errors import UnknownNameError
from sase_attn.tiling import PRECISIONS, buffering
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile

META = torch.device("meta")
# EfficientNet-B0 (arXiv 1905.11946, table 1): expansion, channels, blocks, stride of the first of them.
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 2), (6, 80, 3, 2), (6, 112, 3, 1), (6, 192, 4, 2), (6, 320, 1, 1)]


def efficientnet(width: float, depth: float, size: int, rows: int) -> tuple[int, int]:
    """The paper's formula on the published table: rows × width × (gated + shortcut channels) over all blocks."""

    def scaled(channels: int) -> int:
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    side, before, full, tiled = size // 2, scaled(32), 0, 0
    for expansion, channels, blocks, stride in STAGES:
        for block in range(-int(-blocks * depth // 1)):
            side //= stride if block == 0 else 1
            after = scaled(channels)
            held = before * expansion + (before if block > 0 else 0)
            full += side * side * held
            tiled += min(rows, side) * side * held
            before = after
    return full, tiled


@pytest.mark.parametrize(
    "name, size, width, depth, se, tiled",
    [
        ("tf_efficientnet_b2", 768, 1.1, 1.2, "50.734", "4.766"),  # EfficientDet-D2: the paper's abstract
        ("tf_efficientnet_b0", 224, 1.0, 1.0, "2.517", "0.833"),
        ("tf_efficientnet_b0", 512, 1.0, 1.0, "13.148", "1.903"),
        ("tf_efficientnet_b1", 640, 1.0, 1.1, "33.498", "3.674"),
        ("tf_efficientnet_b3", 896, 1.2, 1.4, "91.490", "7.318"),
        ("efficientnet_b2", 768, 1.1, 1.2, "50.734", "4.766"),
    ],
)
def test_efficientdet(name, size, width, depth, se, tiled):
    report = buffering(timm.create_model(name, device=META), size)
    assert (f"{report.se / 1e6:.3f}", f"{report.tiled / 1e6:.3f}") == (se, tiled)
    assert (report.se, report.tiled) == efficientnet(width, depth, size, 7)
    assert sum(block.projected for block in report.blocks) == 0


def test_the_abstract():
    """ "reduces the activation pipeline buffering … by 90 %" for EfficientDet-D2."""
    report = buffering(timm.create_model("tf_efficientnet_b2", device=META), 768)
    assert len(report.blocks) == 23
    assert f"{-report.saving:.1f}" == "-90.6"
    lines = str(report).splitlines()
    assert lines[-1] == ("SE 50.734M → tiled 4.766M activations (-90.6 %); 50,734,080 → 4,765,824 bytes in int8")
    assert lines[4].split() == ["blocks.0.0.se", "384×384", "32", "0", "0", "7", "rows", "4,718,592", "86,016"]
    gated_alone = sum(block.height * block.width * block.gated for block in report.blocks)
    assert f"{gated_alone / 1e6:.2f}" == "43.60"  # what does not match the paper: the shortcut counts


def test_resnet_and_its_projections():
    """SE-ResNet-50 by hand: 3, 4, 6 and 3 blocks, the first of each projected, at 56, 28, 14 and 7."""
    stages = [(56, 256, 3), (28, 512, 4), (14, 1024, 6), (7, 2048, 3)]
    model = timm.create_model("seresnet50", device=META)
    report = buffering(model, 224)
    assert report.se == sum(n * n * c * (1 + 2 * (blocks - 1)) for n, c, blocks in stages)
    assert report.tiled == sum(min(7, n) * n * c * (1 + 2 * (blocks - 1)) for n, c, blocks in stages)
    firsts = [block for block in report.blocks if block.name.endswith(".0.se")]
    assert [(block.shortcut, block.projected) for block in firsts] == [(0, c) for _, c, _ in stages]
    counted = buffering(model, 224, projections=True)
    assert counted.se == sum(n * n * c * 2 * blocks for n, c, blocks in stages)
    assert "projected ones too" in str(counted)


def test_mobilenet_v3():
    """Table 1 of arXiv 1905.02244: map, expanded channels, input channels of blocks with a shortcut."""
    table = [
        (28, 72, 0), (28, 120, 40), (28, 120, 40), (14, 480, 0), (14, 672, 112), (7, 672, 0), (7, 960, 160),
        (7, 960, 160),
    ]  # fmt: skip
    report = buffering(timm.create_model("mobilenetv3_large_100", device=META), rows=4)
    assert [(block.height, block.gated, block.shortcut) for block in report.blocks] == table
    assert report.tiled == sum(4 * n * (gated + shortcut) for n, gated, shortcut in table)


def test_regnet_y():
    """RegNetY-800MF of arXiv 2003.13678: widths 64, 128, 320, 768, blocks 1, 3, 8, 2."""
    stages = [(56, 64, 1), (28, 128, 3), (14, 320, 8), (7, 768, 2)]
    report = buffering(timm.create_model("regnety_008", device=META), 224)
    assert report.se == sum(n * n * c * (2 * blocks - 1) for n, c, blocks in stages)
    assert report.tiled == sum(7 * n * c * (2 * blocks - 1) for n, c, blocks in stages)


def test_partial_shortcuts_and_wider_ones():
    """ReXNet adds its input to the first channels only; bottlenecks of TResNet gate the narrow middle."""
    rexnet = {block.name: block for block in buffering(timm.create_model("rexnet_100", device=META)).blocks}
    assert (rexnet["features.4.se"].gated, rexnet["features.4.se"].shortcut) == (300, 50)
    tresnet = buffering(timm.create_model("tresnet_m", device=META), 224).blocks
    assert [(b.gated, b.shortcut, b.projected) for b in tresnet[6:9]] == [(128, 128, 0), (256, 0, 1024), (256, 1024, 0)]


@pytest.mark.parametrize("size", [(192, 320), (65, 31)], ids=str)
def test_other_sizes(size):
    model = timm.create_model("seresnet18", device=META)
    first, *_, last = buffering(model, size).blocks
    height, width = (-(-side // 4) for side in size)
    assert (first.height, first.width) == (height, width)
    assert (first.se, first.tiled) == (height * width * 128, min(7, height) * width * 128)
    assert last.height < 7 and last.tiled == last.se


class Gated(nn.Module):
    """A network of one gated map, and a function of (input, branch) that ends it."""

    def __init__(self, end, stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.side = nn.Conv2d(4, 4, 1, bias=False)
        self.conv = nn.Conv2d(4, 4, 3, stride, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.se = timm.layers.SEModule(4)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.end(self, x, self.se(self.conv(x)))


def up(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0)


def written_in_place(m: Gated, x: Tensor, y: Tensor) -> Tensor:
    """The output reaches the last sum through a part of another map."""
    z = m.side(x)
    z[:, :2].add_(y[:, :2])
    return z + x


@pytest.mark.parametrize(
    "end, shortcut, projected",
    [
        (written_in_place, 4, 2),
        (lambda m, x, y: y, 0, 0),
        (lambda m, x, y: y + x, 4, 0),
        (lambda m, x, y: x.add_(y), 4, 0),
        (lambda m, x, y: y.mul_(0.5).add_(m.bn(x) * 0.1), 4, 0),
        (lambda m, x, y: m.relu(y) - m.relu(x), 4, 0),
        (lambda m, x, y: m.bn(y) + m.side(x), 0, 4),
        (lambda m, x, y: y + m.side(x) + x, 4, 4),
        (lambda m, x, y: y + nn.functional.avg_pool2d(x, 3, 1, 1), 0, 4),
        (lambda m, x, y: (y + x) + x, 4, 0),
        (lambda m, x, y: m.side(y) + y, 0, 0),
        (lambda m, x, y: y + m.side.weight.sum() + 1.0, 0, 0),
        (lambda m, x, y: torch.cat([y[:, :2] + x[:, :2], y[:, 2:]], 1), 0, 2),
        (lambda m, x, y: y * x, 0, 0),
        (lambda m, x, y: torch.cat([y, x], 1), 0, 0),
        (lambda m, x, y: m.side(y + x) + x, 4, 0),
    ],
)
def test_what_is_a_shortcut(end, shortcut, projected):
    (block,) = buffering(Gated(end), (20, 10)).blocks
    assert (block.shortcut, block.projected) == (shortcut, projected)
    assert block.se == 200 * (4 + shortcut)


def test_a_shortcut_of_another_size():
    """By its elements: four times those of the gated map."""
    (block,) = buffering(Gated(lambda m, x, y: up(y) + x, stride=2), (20, 10)).blocks
    assert (block.height, block.width, block.gated, block.shortcut) == (10, 5, 4, 16)


def test_long_shortcuts_wait_for_every_module_that_they_pass():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.first, self.second = timm.layers.SEModule(4), timm.layers.SEModule(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.first(x) + x
            return self.second(y * 2) + y + x

    first, second = buffering(Two(), 8).blocks
    assert (first.shortcut, second.shortcut) == (4, 8)


def test_tiled_networks_report_their_tiles():
    model = timm.create_model("seresnet18")
    tile(model, rows=3, count=2, overrides={"layer4.1.se": (2, 2), "layer4.0.se": (None, 3)})
    report = buffering(model, 224)
    whole = buffering(timm.create_model("seresnet18", device=META), 224)
    assert report.se == whole.se
    assert [block.tile for block in report.blocks[:3]] == [(3, None), (3, None), (None, None)]
    assert report.blocks[0].tiled == 3 * 56 * 128 and report.blocks[2].tiled == report.blocks[2].se
    assert report.blocks[-2].tiled == 7 * 3 * 512  # three columns of seven rows
    assert report.blocks[-1].tiled == 2 * 7 * 1024  # rows are streamed: two of them
    rest = buffering(model, 224, rows=7).blocks
    assert [block.tile for block in rest[:3]] == [(3, None), (3, None), (7, None)]
    assert all(isinstance(model.get_submodule(block.name), TiledSE) for block in rest[:2])
    words = str(report)
    assert all(shown in words for shown in (" 3 rows ", " whole ", " 2×2 ", " 3 columns "))


def test_the_network_is_left_as_it_was():
    model = timm.create_model("seresnet18").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    buffering(model, 64)
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_bytes_and_json():
    model = timm.create_model("seresnet18", device=META)
    report = buffering(model, (224, 96), precision="float16")
    found = json.loads(report.to_json())
    assert found["network"] == "seresnet18" and found["size"] == [224, 96] and found["precision"] == "float16"
    assert found["se"] == sum(block["se"] for block in found["blocks"]) == report.se
    assert found["tiled_bytes"] == 2 * report.tiled and found["se_bytes"] == 2 * report.se
    assert found["blocks"][0] == {
        "name": "layer1.0.se", "height": 56, "width": 24, "gated": 64, "shortcut": 64, "projected": 0,
        "tile": [7, None], "se": 56 * 24 * 128, "tiled": 7 * 24 * 128,
    }  # fmt: skip
    sizes = {precision: report.size_in_bytes(1001, precision) for precision in PRECISIONS}
    assert sizes["int4"] == 501 and sizes["int8"] == 1001 and sizes["bfloat16"] == 2002 and sizes["float32"] == 4004


def test_errors():
    model = timm.create_model("seresnet18", device=META)
    with pytest.raises(UnknownNameError, match="unknown precision 'int7'; did you mean int"):
        buffering(model, precision="int7")
    with pytest.raises(UnknownNameError, match="unknown precision 'fp16'"):
        buffering(model).size_in_bytes(1, "fp16")
    for size in (0, (224, -1), (1, 2, 3), 2.5, "224"):
        with pytest.raises(ValueError, match=r"size must be a positive number or \(height, width\), got"):
            buffering(model, size)
    with pytest.raises(ValueError, match=r"a tile is \(rows, columns\)"):
        buffering(model, rows=0)
    with pytest.raises(ValueError, match="no squeeze-and-excitation .* attention-like modules: none"):
        buffering(timm.create_model("resnet18", device=META))
    with pytest.raises(ValueError, match=r"a trial pass of \(1, 3, 7, 7\) fails"):
        buffering(nn.Sequential(nn.Conv2d(3, 8, 9), timm.layers.SEModule(8)), 7)
