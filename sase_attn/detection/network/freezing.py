"""What of a detector's backbone does not train: norms, and the stem with the first stages.

As mmdetection's schedule for ResNets has it, which the SASE paper follows. `frozen_norms` is its `norm_eval`: every
batch norm of the backbone, those inside attention blocks too, keeps its statistics, while its weight and bias train.
`freeze_stages` is its `frozen_stages`: stem and stages, with the attention blocks in them, are left as they are.
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network.backbone import PyramidBackbone
from sase_attn.detection.network.body import parameters_behind, probe


def freeze_backbone(model: nn.Module, config: DetectionConfig) -> None:
    """Freeze what `freeze_stages` and `frozen_norms` of a configuration say; all else of the backbone trains.

    It stays frozen when `model.train()` is called. A stage is what its feature map is computed by: its parameters are
    found by the graph of an image, whatever their names are.

    Args:
        model: of `create_detector`, or of `create_backbone`.
        config: freeze_stages and frozen_norms count.

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
    """Identities of the parameters of the stem and so many stages."""
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
    """Names of the modules that are frozen with all that is in them; and of the batch norms, if they are too."""
    tops: list[str] = []
    for name, module in body.named_modules():
        inside = name.startswith(tuple(f"{top}." for top in tops))
        if not inside and name and _is_frozen(module):
            tops.append(name)
            inside = True
        if inside or (norms and isinstance(module, _BatchNorm)):
            yield name


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none that trains."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _plain(name: str) -> str:
    """A module's name however timm joined its parts."""
    return name.removeprefix("model.").replace(".", "_")
