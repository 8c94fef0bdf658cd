"""`tile`: which modules it converts and how, and that the network is otherwise the one it was."""

import copy
import io
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from inputs import draw
from networks import moved, network
from tolerances import assert_close
from torch import Tensor, nn
from torch.export import Dim

from sase_attn.errors import UnknownNameError
from sase_attn.insert import SqueezeExcitation, describe_se, pointwise, register_se
from sase_attn.insert.meta_forward import in_execution_order
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.convert import tile

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning"),
]
SMALL = {"layers": [1, 1, 1, 1]}
FAMILIES = {
    "seresnet18": (4, SMALL),
    "legacy_seresnet18": (4, SMALL),
    "efficientnet_b0": (16, {}),
    "mobilenetv3_small_050": (9, {}),
    "regnety_002": (13, {}),
    "rexnet_100": (13, {}),
    "ghostnet_050": (7, {}),
    "ese_vovnet19b_slim_dw": (4, {}),
    "tresnet_m": (3, SMALL),
    "test_nfnet": (4, {}),
    "test_byobnet": (4, {}),
}


def paper(module: nn.Module, inputs: tuple[Tensor], output: Tensor, rows: int, columns: int | None) -> Tensor:
    """Algorithm 1 of the paper around the layers of a host, as a forward hook of it."""
    (x,) = inputs
    side = (min(rows, x.shape[2]), min(columns or x.shape[3], x.shape[3]))
    gate = F.avg_pool2d(x, side, ceil_mode=True)
    for layer in describe_se(module).layers.values():
        gate = layer(gate)
    gate = gate.repeat_interleave(side[0], 2)[:, :, : x.shape[2]].repeat_interleave(side[1], 3)[..., : x.shape[3]]
    return x * gate


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_families(name):
    count, args = FAMILIES[name]
    # In double precision, because these networks make much of single precision's rounding.
    model, x = network(name, num_classes=5, **args).double(), draw(2, 3, 64, 96).double()
    wanted, keys, tensors = model(x), list(model.state_dict()), {id(p) for p in model.parameters()}
    large, small = copy.deepcopy(model), copy.deepcopy(model)
    assert len(tile(large, rows=99)) == count
    assert torch.equal(large(x), wanted)
    assert list(large.state_dict()) == keys
    hosts = [module for module in model.modules() if describe_se(module) is not None]
    for host in hosts:
        host.register_forward_hook(lambda m, i, o: paper(m, i, o, 3, None))
    tile(small, rows=3)
    assert not torch.equal(small(x), wanted)
    assert_close(small(x), model(x))
    for host in hosts:
        host._forward_hooks.clear()
    tile(model, rows=3)
    assert {id(p) for p in model.parameters()} == tensors
    assert torch.equal(small(x), model(x))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"])
@torch.no_grad()
def test_torchvision(name):
    torch.manual_seed(0)
    model, x = moved(getattr(torchvision.models, name)(num_classes=5)).double(), draw(1, 3, 96, 64).double()
    wanted, keys = model(x), list(model.state_dict())
    twin = copy.deepcopy(model)
    report = tile(model, rows=99)
    assert report[0].old == "SqueezeExcitation" and len(report) in (9, 16)
    assert list(model.state_dict()) == keys and torch.equal(model(x), wanted)
    for host in [module for module in twin.modules() if describe_se(module) is not None]:
        host.register_forward_hook(lambda m, i, o: paper(m, i, o, 2, 3))
    tiled = copy.deepcopy(twin)
    for module in tiled.modules():
        module._forward_hooks.clear()
    tile(tiled, rows=2, columns=3)
    assert_close(tiled(x), twin(x), tolerance=1e-9)  # of up to 16 blocks in a row


def tiles(model: nn.Module) -> dict[str, tuple[int | None, int | None]]:
    return {name: module.tile for name, module in model.named_modules() if isinstance(module, TiledSE)}


def test_the_first_ones_and_overrides():
    model = timm.create_model("seresnet18")
    names = [f"layer{stage}.{block}.se" for stage in (1, 2, 3, 4) for block in (0, 1)]
    report = tile(model, rows=5, count=3, overrides={"layer4.*.se": (2, 3), "layer4.1.se": 4, "layer1.1.se": "full"})
    assert tiles(model) == {
        "layer1.0.se": (5, None), "layer2.0.se": (5, None), "layer4.0.se": (2, 3), "layer4.1.se": (4, None),
    }  # fmt: skip
    assert [entry.name for entry in report] == list(tiles(model))
    assert (report[2].old, report[2].channels, report[2].tile) == ("SEModule", 512, (2, 3))
    only = timm.create_model("seresnet18")
    tile(only, rows=None, overrides={"layer2.*.se": [3, None]})
    assert tiles(only) == {"layer2.0.se": (3, None), "layer2.1.se": (3, None)}
    columns = timm.create_model("seresnet18")
    tile(columns, rows=None, columns=7, overrides={"layer1.*.*": None, names[-1]: 1})
    assert tiles(columns) == dict.fromkeys(names[2:-1], (None, 7)) | {names[-1]: (1, None)}


def test_dry_run_and_modes():
    model = timm.create_model("seresnet18").train()
    model.layer1[0].se.eval()
    before = {name: id(module) for name, module in model.named_modules()}
    planned = tile(model, dry_run=True)
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert tile(model) == planned and len(planned) == 8
    assert not model.layer1[0].se.training and model.layer1[1].se.training
    assert model.layer1[0].se.fc1.weight.requires_grad


class Backwards(nn.Module):
    """Registers its stages in the order opposite to that of execution; one of them never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = timm.layers.SEModule(8)
        self.last = timm.layers.SEModule(8)
        self.first = timm.layers.SEModule(8)
        self.stem = nn.Conv2d(5, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.stem(x))).mean()


def test_first_means_first_to_run():
    model = Backwards()
    assert in_execution_order(model, ["unused", "last", "first"]) == ["first", "last", "unused"]
    assert [entry.name for entry in tile(model, count=1)] == ["first"]
    assert list(tiles(model)) == ["first"]
    assert [entry.name for entry in tile(model)] == ["last", "unused"]


def test_a_network_that_no_trial_pass_runs():
    class Two(Backwards):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x + y)

    with pytest.raises(ValueError, match="cannot tell which modules are the first: a trial pass of .* fails"):
        tile(Two(), count=1)
    model = Two()
    assert [entry.name for entry in tile(model)] == ["unused", "last", "first"]
    assert model(torch.randn(1, 5, 9, 9), torch.zeros(1, 5, 9, 9)).isfinite()


def test_a_shared_module_stays_one():
    shared = timm.layers.SEModule(8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared)
    assert len(tile(model)) == 2
    assert model[1] is model[3] and isinstance(model[1], TiledSE)


def test_a_shared_module_has_the_tiles_that_each_of_its_names_asks_for():
    shared = timm.layers.SEModule(8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared)
    report = tile(model, 4, overrides={"3": 2})
    assert [(entry.name, entry.tile) for entry in report] == [("1", (4, None)), ("3", (2, None))]
    assert (model[1].tile, model[3].tile) == ((4, None), (2, None)) and model[1].fc1 is model[3].fc1


def test_your_own_class():
    class Squeeze(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8), nn.Sigmoid())

        def forward(self, x: Tensor) -> Tensor:
            return x * self.fc(x.mean((2, 3)))[..., None, None]

    class SELayer(Squeeze):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), timm.layers.SEModule(8), Squeeze(), SELayer())
    register_se(Squeeze, lambda m: SqueezeExcitation(8, {"fc": pointwise(m.fc)}))
    x, keys = draw(2, 3, 9, 9), list(model.state_dict())
    wanted = model(x)
    with pytest.warns(UserWarning, match=r"left as they are, .*: 3 \(SELayer\)"):
        assert [entry.old for entry in tile(model, 9)] == ["SEModule", "Squeeze"]
    assert_close(model(x), wanted)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rows": 0}, r"a tile is \(rows, columns\)"),
        ({"rows": "7"}, r"a tile is \(rows, columns\)"),
        ({"count": 0}, "count must be at least 1, or None for all, got 0"),
        ({"count": 2.5}, "count must be at least 1"),
        ({"count": True}, "count must be at least 1"),
        ({"rows": None}, "every module would keep the whole map"),
        ({"overrides": {"layer1.*.se": "whole"}}, r"a tile is \(rows, columns\)"),
        ({"overrides": {"*.*.se": "full"}}, "every module would keep the whole map"),
    ],
)
def test_errors_leave_the_network_alone(arguments, message):
    model = timm.create_model("seresnet18", **SMALL)
    with pytest.raises(ValueError, match=message):
        tile(model, **arguments)
    assert not tiles(model)


def test_what_cannot_be_tiled():
    with pytest.raises(UnknownNameError, match=r"pattern 'layer5\.\*\.se'; did you mean layer"):
        tile(timm.create_model("seresnet18", **SMALL), overrides={"layer5.*.se": 3})
    with pytest.raises(
        ValueError, match="wanted squeeze-and-excitation modules, .* attention-like modules: 16 EcaModule"
    ):
        tile(timm.create_model("ecaresnet50t", device="meta"))
    model = timm.create_model("seresnet18", **SMALL)
    tile(model)
    with pytest.raises(ValueError, match="nothing to tile: .* 4 TiledSE"):
        tile(model)
    with pytest.raises(ValueError, match="the model itself is a SEModule"):
        tile(timm.layers.SEModule(8))
    model = timm.create_model("seresnet18", **SMALL)
    model.layer2[0].se.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"layer2\.0\.se has forward hooks"):
        tile(model)
    assert not tiles(model)


@torch.no_grad()
def test_script_fx_and_features():
    model, x = network("mobilenetv3_small_050", num_classes=5), draw(2, 3, 96, 64)
    tile(model, rows=2)
    wanted = model(x)
    assert_close(torch.jit.script(model)(x), wanted)
    assert_close(torch.fx.symbolic_trace(model)(x), wanted)
    for maps, expected in zip(
        timm.models.FeatureGraphNet(copy.deepcopy(model), out_indices=(0, 1, 2))(x),
        model.forward_intermediates(x, indices=[0, 1, 2], intermediates_only=True),
        strict=True,
    ):
        assert_close(maps, expected)


@pytest.mark.parametrize("opset", [13, 20])
@torch.no_grad()
def test_onnx_of_a_network_at_other_sizes(opset):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model, file = network("mobilenetv3_small_050", num_classes=5), io.BytesIO()
    tile(model, rows=3)
    axes = {"x": {0: "B", 2: "H", 3: "W"}}
    torch.onnx.export(
        model, draw(2, 3, 64, 96), file, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=opset
    )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 64, 96), (1, 3, 160, 64), (3, 3, 33, 47)):
        (y,) = session.run(None, {"x": draw(*shape).numpy()})
        assert_close(torch.from_numpy(y), model(draw(*shape)), tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 20])
@torch.no_grad()
def test_onnx_of_a_network_by_torch_export(opset):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = network("mobilenetv3_small_050", num_classes=5)
    tile(model, rows=3, overrides={"blocks.4.*.se": (2, 2)})
    sizes = ({0: Dim("B"), 2: Dim("H", min=33), 3: Dim("W", min=33)},)
    program = torch.export.export(model, (draw(2, 3, 64, 96),), dynamic_shapes=sizes)
    made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset).model_proto
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 64, 96), (1, 3, 160, 64), (3, 3, 33, 47)):
        (y,) = session.run(None, {session.get_inputs()[0].name: draw(*shape).numpy()})
        assert_close(torch.from_numpy(y), model(draw(*shape)), tolerance=1e-4)


def test_attached_rebuilds_a_tiled_network(tmp_path):
    overrides = {"layer4.*.se": [2, 3]}
    options = dict(base="seresnet18", layers=SMALL["layers"], tile={"rows": 4, "count": 2, "overrides": overrides})
    model = timm.create_model("attached", num_classes=5, **options)
    assert tiles(model) == {"layer1.0.se": (4, None), "layer2.0.se": (4, None), "layer4.0.se": (2, 3)}
    timm.models.save_for_hf(model, tmp_path / "saved", model_args=model._model_args, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
    assert tiles(loaded) == tiles(model)
    x = draw(1, 3, 64, 64)
    assert torch.equal(loaded.eval()(x), model.eval()(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = timm.create_model("seresnet18", num_classes=5, layers=SMALL["layers"])
    plain.load_state_dict(loaded.state_dict())
