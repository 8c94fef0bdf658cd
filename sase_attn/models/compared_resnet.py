"""timm's ResNets with each attention of the literature, to compare with: `NAME_resnet50`, `…_resnet101`, `…_resnet20`.

`NAME` is one of `PLACEMENTS`, which says where that attention goes, by its paper or its authors' code. Weights come
with the package for `se_resnet20` alone, see `pretrained_files`; `attached` starts from timm's. All arguments are
those of `timm.models.ResNet`, `attn_args`, options of the attention (JSON-able, so that they survive the Hub), and
`gain`, see `sase_attn.attentions.set_gain`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from sase_attn.attention import undecayed
from sase_attn.attentions.registry import attention_factory
from sase_attn.attentions.starting_gain import PUBLISHED
from sase_attn.models.placement import PLACEMENTS, before_every_convolution
from sase_attn.models.pretrained_files import configured, note_gain, tagged
from sase_attn.models.sase_resnet_cifar import CIFAR_CFG, CifarResNet
from sase_attn.ops.arguments import options
from sase_attn.weights.warm_start import check_pretrained

__all__: list[str] = []  # filled by register_model

IMAGENET_CFG = dict(
    num_classes=1000,
    input_size=(3, 224, 224),
    pool_size=(7, 7),
    crop_pct=0.95,
    interpolation="bicubic",
    mean=IMAGENET_DEFAULT_MEAN,
    std=IMAGENET_DEFAULT_STD,
    first_conv="conv1",
    classifier="fc",
    license="apache-2.0",
)

_ECA_KERNELS = {"eca_resnet50": (3, 5, 5, 7), "eca_resnet101": (3, 3, 5, 7)}  # those of the released networks, by stage


class _Compared:
    """The part that both hosts share: it inserts the attention into the plain network after that has been built."""

    def place(
        self,
        attention: str,
        attn_args: Mapping[str, Any] | None,
        kernel_sizes: tuple[int, ...],
        gain: str | float,
        device: torch.device | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Insert the attention at its places."""

        def build(channels: int, stage: int, **here: Any) -> nn.Module:
            arguments = (
                here
                | {"gain": gain}
                | ({"kernel_size": kernel_sizes[stage]} if kernel_sizes else {})
                | options("attn_args", attn_args)
            )
            return attention_factory(attention, arguments)(channels, device=device, dtype=dtype)

        assert isinstance(self, ResNet)
        PLACEMENTS[attention](self, build)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the attention's paper trains without weight decay."""
        assert isinstance(self, nn.Module)
        return undecayed(self)


class ComparedResNet(_Compared, ResNet):
    """timm's ResNet with an attention of `PLACEMENTS`."""

    def __init__(
        self,
        attention: str,
        attn_args: Mapping[str, Any] | None = None,
        kernel_sizes: tuple[int, ...] = (),
        gain: str | float = PUBLISHED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.place(attention, attn_args, kernel_sizes, gain, kwargs.get("device"), kwargs.get("dtype"))


class ComparedCifarResNet(_Compared, CifarResNet):
    """The ResNet for 32×32 images with an attention of `PLACEMENTS`."""

    def __init__(
        self,
        attention: str,
        attn_args: Mapping[str, Any] | None = None,
        gain: str | float = PUBLISHED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.place(attention, attn_args, (), gain, kwargs.get("device"), kwargs.get("dtype"))


_HOSTS: dict[str, tuple[type[ResNet], dict[str, Any]]] = {
    "resnet50": (ComparedResNet, dict(block=Bottleneck, layers=(3, 4, 6, 3))),
    "resnet101": (ComparedResNet, dict(block=Bottleneck, layers=(3, 4, 23, 3))),
    "resnet20": (ComparedCifarResNet, dict(block=BasicBlock, layers=(3, 3, 3))),
}


def _cfg(attention: str, host: str) -> dict[str, Any]:
    cfg = CIFAR_CFG if host == "resnet20" else IMAGENET_CFG
    stem = "conv1.host" if PLACEMENTS[attention] is before_every_convolution else "conv1"
    return cfg | dict(first_conv=stem)


default_cfgs = generate_default_cfgs(
    {
        name: cfg
        for attention in PLACEMENTS
        for host in _HOSTS
        for name, cfg in tagged(f"{attention}_{host}", _cfg(attention, host)).items()
    }
)


def _register(attention: str, host: str) -> None:
    name = f"{attention}_{host}"
    cls, args = _HOSTS[host]
    fixed = args | ({"kernel_sizes": _ECA_KERNELS[name]} if name in _ECA_KERNELS else {})

    def create(pretrained: bool = False, **kwargs: Any) -> ResNet:
        indices = dict(feature_cfg=dict(out_indices=(0, 1, 2, 3))) if cls is ComparedCifarResNet else {}
        arguments, of_file = configured(name, pretrained, kwargs)
        model = build_model_with_cfg(
            cls, name, pretrained, pretrained_filter_fn=_own, attention=attention, **indices, **fixed | arguments
        )
        return note_gain(model, of_file)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"ResNet-{host.removeprefix('resnet')} with `{attention}`: {_where(attention)}"
    globals()[name] = register_model(create)


def _own(state_dict: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Return weights of this same network. Raises ValueError if they are recorded with another starting gain."""
    check_pretrained(state_dict, model)
    return state_dict


def _where(attention: str) -> str:
    words = (PLACEMENTS[attention].__doc__ or "").strip()
    return words[:1].lower() + words[1:]


for _attention in PLACEMENTS:
    for _host in _HOSTS:
        _register(_attention, _host)
