"""What of a backbone is frozen: its parameters, its statistics, for how long, and by which rule."""

import copy

import pytest
import torch
from tiny_detector import images_and_targets, tiny_config
from torch.nn.modules.batchnorm import _BatchNorm

from sase_attn.detection.network import create_detector, freeze_backbone

SHALLOW = {"layers": [1, 1, 1, 1]}


def frozen_parts(model):
    names = [name for name, p in model.backbone.body.named_parameters() if not p.requires_grad]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "stages, parts",
    [
        (-1, set()),
        (0, {"conv1", "bn1"}),
        (1, {"conv1", "bn1", "layer1"}),
        (3, {"conv1", "bn1", "layer1", "layer2", "layer3"}),
        (4, {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_stages(stages, parts):
    model = create_detector(tiny_config(freeze_stages=stages), 2)
    assert frozen_parts(model) == parts
    body = model.backbone.body
    assert all(not p.requires_grad for part in parts for p in body.get_submodule(part).parameters())
    assert all(p.requires_grad for p in model.backbone.fpn.parameters())
    assert not parts or any(".se." in name for name, p in body.named_parameters() if not p.requires_grad) == (
        stages > 0
    )
    modes = {
        part: {module.training for module in body.get_submodule(part).modules()} for part, _ in body.named_children()
    }
    assert all(modes[part] == ({False} if part in parts else {True}) for part in modes)


def test_a_step_moves_only_what_is_not_frozen():
    """With the paper's schedule: affine weights of later norms train, no statistic moves, nothing of stage 1 does."""
    model = create_detector(tiny_config(freeze_stages=1, frozen_norms=True), 2)
    model.train()
    model.eval()
    model.train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(model(*images_and_targets()).values()).backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not any(
        key.startswith(("backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1")) for key in moved
    )
    assert not any("running" in key or "num_batches" in key for key in moved)
    layer = model.backbone.body.layer2[0]
    assert all(p.grad.abs().sum() > 0 for p in (layer.bn1.weight, layer.bn1.bias, layer.bn2.weight))
    assert any(p.grad.abs().sum() > 0 for p in layer.se.parameters())
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    inside = [name for name, m in model.named_modules() if ".se." in name and isinstance(m, _BatchNorm)]
    assert inside and not any(norm.training for norm in norms)


def test_norms_that_are_not_frozen_move_outside_frozen_stages():
    model = create_detector(tiny_config(freeze_stages=1, frozen_norms=False), 2).train()
    before = copy.deepcopy(model.state_dict())
    model(*images_and_targets())
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert "backbone.body.layer2.0.bn1.running_mean" in moved
    assert not any(".layer1." in key or ".body.bn1." in key for key in moved)


def test_it_can_be_changed_and_is_copied():
    model = create_detector(tiny_config(freeze_stages=2), 2)
    again = copy.deepcopy(model)
    freeze_backbone(model.double(), tiny_config(freeze_stages=1))
    assert frozen_parts(model) == {"conv1", "bn1", "layer1"}
    freeze_backbone(model, tiny_config(freeze_stages=-1))
    assert frozen_parts(model) == set()
    assert all(module.training for module in model.train().modules())
    assert frozen_parts(again) == {"conv1", "bn1", "layer1", "layer2"}
    assert not again.train().backbone.body.layer2.training


@pytest.mark.parametrize(
    "backbone, arguments, stem, stage",
    [
        ("regnety_002", {}, {"stem"}, {"stem", "s1"}),
        ("convnext_atto", {"depths": [1, 1, 1, 1]}, {"stem_0", "stem_1"}, {"stem_0", "stem_1", "stages_0"}),
        ("bam_resnet50", SHALLOW, {"conv1", "bn1"}, {"conv1", "bn1", "layer1"}),
        ("gct_gated_resnet50", SHALLOW, {"conv1", "bn1"}, {"conv1", "bn1", "layer1"}),
        ("attached", {"base": "resnet18", "attn": "se", "after": "layer*.*.bn2"}, {"conv1", "bn1"}, None),
    ],
)
def test_families(backbone, arguments, stem, stage):
    config = tiny_config(backbone=backbone, backbone_kwargs=arguments, freeze_stages=0)
    with torch.device("meta"):
        model = create_detector(config, 2)
        assert frozen_parts(model) == stem
        freeze_backbone(model, config.override(freeze_stages=1))
    assert frozen_parts(model) == (stage or {"conv1", "bn1", "layer1"})
    assert all(not p.requires_grad for part in frozen_parts(model) for p in model.backbone.body[part].parameters())


def test_by_blocks_of_mobile_networks():
    config = tiny_config(backbone="mobilenetv3_small_050", backbone_kwargs={}, freeze_stages=1)
    with torch.device("meta"):
        model = create_detector(config, 2)
    frozen = {name for name, p in model.backbone.body.named_parameters() if not p.requires_grad}
    assert {".".join(name.split(".")[:3]) for name in frozen if ".blocks." in name} == {"model.blocks.0"}


@pytest.mark.parametrize(
    "backbone, stages, message",
    [
        ("hrnet_w18_small", 1, "hrnet_w18_small: its stages do not follow one another; wanted freeze_stages -1"),
        ("vgg11", 0, "vgg11 has no stem apart from its first stage; wanted freeze_stages -1 or 1"),
    ],
)
def test_families_without_stages(backbone, stages, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_detector(tiny_config(backbone=backbone, backbone_kwargs={}, freeze_stages=stages), 2)


def test_what_starts_frozen_at_random_is_said(tmp_path):
    lines = []
    create_detector(tiny_config(freeze_stages=1), 2, echo=lines.append)
    create_detector(tiny_config(frozen_norms=True), 2, echo=lines.append)
    assert [line.rpartition("(")[2] for line in lines] == ["here 1 and false)", "here -1 and true)"]
    model = create_detector(tiny_config(), 2, echo=lines.append)
    torch.save(model.backbone.body.state_dict(), tmp_path / "body.pth")
    create_detector(tiny_config(freeze_stages=1, init_from=str(tmp_path / "body.pth")), 2, echo=lines.append)
    assert len(lines) == 2
