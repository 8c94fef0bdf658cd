"""`create_body`: build the network of timm for a detector, load its weights, and extract four feature maps."""

from collections.abc import Callable
from inspect import signature

import torch
from timm.models import FeatureInfo, build_model_with_cfg
from torch import Tensor, nn

from sase_attn.detection.config import DetectionConfig
from sase_attn.errors import in_words
from sase_attn.models.feature_maps import feature_cfg_of
from sase_attn.quoting import enumerated
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe

STRIDES = (4, 8, 16, 32)
PROBE_SIZE = (64, 96)  # not square, so that a network that accepts only one size is noticed
_OURS = ("pretrained", "num_classes", "in_chans", "features_only", "out_indices", "feature_cls", "output_stride")


def create_body(config: DetectionConfig, *, echo: Callable[[str], object] = print) -> nn.Module:
    """The backbone of a configuration, which returns the maps at `STRIDES` as a list; it seeds torch's generator.

    Its `feature_info` describes the maps, and its `pretrained_cfg` the normalisation of images.

    Args:
        config: only backbone, backbone_kwargs, init_from and seed are used.
        echo: called with a line for each change that was needed to make weights fit.

    Raises:
        UnknownNameError: no such model.
        ValueError: the model does not accept the arguments, the weights do not fit, or it has no maps at these strides.
        FileNotFoundError: `init_from` does not exist. HubError: timm's weights cannot be fetched.
    """
    if taken := [name for name in _OURS if name in config.backbone_kwargs]:
        raise ValueError(
            f"detection recipe field backbone_kwargs: {', '.join(taken)}: set by the detector; leave them out"
        )
    recipe = Recipe(
        model=config.backbone, model_kwargs=config.backbone_kwargs, init_from=config.init_from, seed=config.seed
    )
    network = create_network(recipe, num_classes=0, in_chans=3, echo=echo)
    indices = _indices(network, config.backbone)
    try:
        body: nn.Module = build_model_with_cfg(
            lambda **_: network,  # the network that was built above, with its weights
            config.backbone,
            pretrained=False,
            pretrained_cfg=network.pretrained_cfg,
            feature_cfg={**feature_cfg_of(config.backbone, config.backbone_kwargs), "out_indices": indices},
            features_only=True,
        )
        maps = probe(body)
    except Exception as error:  # networks without support for feature extraction raise various errors
        raise _refused(config.backbone, in_words(error).rstrip(".") + _hint(network, config)) from None
    for stride, each in zip(STRIDES, maps, strict=True):
        size = each.shape[1:3] if is_channels_last(body) else each.shape[2:]
        if tuple(size) != (wanted := tuple(side // stride for side in PROBE_SIZE)):
            raise _refused(config.backbone, f"wanted a map of {wanted} at stride {stride}, got {tuple(size)}")
    return body


def probe(body: nn.Module) -> list[Tensor]:
    """The maps of a small image in eval mode, with their autograd graph."""
    mode, like = body.training, next(body.parameters())
    body.eval()
    try:
        with torch.enable_grad():
            maps: list[Tensor] = list(body(torch.zeros(1, 3, *PROBE_SIZE, device=like.device, dtype=like.dtype)))
    finally:
        body.train(mode)
    return maps


def parameters_behind(result: Tensor) -> set[int]:
    """The `id` of every parameter that a tensor was computed with."""
    found: set[int] = set()
    seen = set()
    waiting = [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return found


def trains_in_vain(body: nn.Module) -> bool:
    """Whether a parameter that is not frozen contributes to no map, and so never gets a gradient."""
    behind = set[int]().union(*map(parameters_behind, probe(body)))
    return any(parameter.requires_grad and id(parameter) not in behind for parameter in body.parameters())


def is_channels_last(body: nn.Module) -> bool:
    """Whether the maps are (B, H, W, C)."""
    return str(getattr(body.output_fmt, "value", body.output_fmt)) == "NHWC"


def _indices(network: nn.Module, name: str) -> tuple[int, ...]:
    """Indices of the last feature map of a network at each stride."""
    info = getattr(network, "feature_info", None)
    entries = info.info if isinstance(info, FeatureInfo) else list(info or ())
    strides = [entry["reduction"] for entry in entries]
    if missing := [stride for stride in STRIDES if stride not in strides]:
        words = f"its strides are {', '.join(map(str, strides))}" if strides else "timm knows none of its maps"
        raise _refused(name, f"no map at stride {enumerated(missing)}; {words}")
    return tuple(len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES)


def _hint(network: nn.Module, config: DetectionConfig) -> str:
    """Advice for Swin transformers of timm, which accept images of any size only with a certain argument."""
    argument = "strict_img_size"
    if argument in config.backbone_kwargs or argument not in signature(type(network)).parameters:
        return ""
    return f"; backbone_kwargs {argument}=False may help"


def _refused(name: str, reason: str) -> ValueError:
    wanted = f"wanted feature maps at strides {', '.join(map(str, STRIDES))} for images of any size"
    return ValueError(f"cannot make a detector of {name}: {wanted}; {reason}")
