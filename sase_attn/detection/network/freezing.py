"""Freeze parts of a detector's backbone: the statistics of norms, and the stem with the first stages.

This follows mmdetection's schedule for ResNets, which the SASE paper uses. `frozen_norms` is its `norm_eval`: every
batch norm of the backbone, also inside attention blocks, keeps its statistics, while its weight and bias are trained.
`freeze_stages` is its `frozen_stages`: stem and stages, with the attention blocks in them, are not trained.
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network.backbone import PyramidBackbone
from sase_attn.detection.network.body import parameters_behind, probe


def freeze_backbone(model: nn.Module, config: DetectionConfig) -> None:
    """Freeze what `freeze_stages` and `frozen_norms` of a configuration say; the rest of the backbone is trained.

    Frozen parts stay so when `model.train()` is called. The parameters of a stage are those that its feature map is
    computed with, found in the autograd graph of an image whatever their names are.

    Args:
        model: a model from `create_detector` or `create_backbone`.
        config: only freeze_stages and frozen_norms are used.

    Raises:
        ValueError: the network's stages do not follow one another, or it has no stem apart from the first stage.
    """
    backbone = model if isinstance(model, PyramidBackbone) else model.backbone
    assert isinstance(backbone, PyramidBackbone)
    body = backbone.body
    body.requires_grad_(True)
    frozen = _frozen(body, config) if config.freeze_stages >= 0 else set()
    for parameter in body.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    backbone.kept_in_eval = frozenset(_kept_in_eval(body, norms=config.frozen_norms))
    model.train(model.training)


def _frozen(body: nn.Module, config: DetectionConfig) -> set[int]:
    """The `id` of every parameter of the stem and of the first `freeze_stages` stages."""
    number = max(config.freeze_stages, 1) - 1
    behind = [parameters_behind(each) for each in probe(body)]
    frozen = behind[number]
    if not all(frozen <= deeper for deeper in behind[number:]):
        raise ValueError(f"{config.backbone}: its stages do not follow one another; wanted freeze_stages -1")
    if config.freeze_stages > 0:
        return frozen
    name = _plain(body.feature_info.module_name()[0])  # type: ignore[union-attr,operator]
    stage = [module for key, module in body.named_modules() if _plain(key) == name]
    own = {id(parameter) for module in stage for parameter in module.parameters()}
    if not own:
        raise ValueError(f"{config.backbone} has no stem apart from its first stage; wanted freeze_stages -1 or 1")
    return frozen - own


def _kept_in_eval(body: nn.Module, *, norms: bool) -> Iterator[str]:
    """Names of modules without any trainable parameter; and of all batch norms, if `norms`."""
    tops: list[str] = []
    for name, module in body.named_modules():
        inside = name.startswith(tuple(f"{top}." for top in tops))
        if not inside and name and _is_frozen(module):
            tops.append(name)
            inside = True
        if inside or (norms and isinstance(module, _BatchNorm)):
            yield name


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, none of which is trained."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _plain(name: str) -> str:
    """A module's name in one form, whichever separator timm used."""
    return name.removeprefix("model.").replace(".", "_")
