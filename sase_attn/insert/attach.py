"""Put attention behind layers of a network that exists, by their names: `attach`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.attention import scale_words
from sase_attn.attentions.registry import attention_factory
from sase_attn.attentions.starting_gain import PUBLISHED, can_scale, gain_of, set_gain
from sase_attn.genotype import Genotype
from sase_attn.insert.gain import absorbing_parameters, check_alone, start_as_constant
from sase_attn.modules import matching
from sase_attn.ops.arguments import options


@dataclass(frozen=True)
class Insertion:
    """One place that `attach` touched: the module's name and class, its output channels, and the gain divided out."""

    name: str
    host: str
    channels: int
    gain: float | None


class Attached(nn.Module):
    """A layer of a network, `host`, followed by an attention, `attn`, and a factor where that has no `scale`."""

    def __init__(self, host: nn.Module, attn: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.training = host.training
        self.host = host
        self.attn = attn
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.attn(self.host(x))
        return y if self.scale == 1 else y * self.scale

    def extra_repr(self) -> str:
        return scale_words(self.scale).removeprefix(", ")


def attach(
    model: nn.Module,
    *,
    after: str | Sequence[str],
    attn: str | Genotype | Callable[..., nn.Module] = "sase",
    preserve_output: bool = False,
    gain: str | float = PUBLISHED,
    attn_args: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> list[Insertion]:
    """Follow every module of `model` whose name matches `after` by an attention, in place.

    A module `bn3` becomes `Attached(host=bn3, attn=…)`, so that its state dict keys become `bn3.host.…`, `bn3.attn.…`.
    A module that sits in several places stays one module, with one attention.

    Args:
        model: any network, for example of timm or torchvision.
        after: a pattern or several, matched dot by dot: "layer*.*.bn3" is every `bn3` two levels below `layer…`.
        attn: a name of `list_attentions()`, a genotype (or its name or inline string), or anything that, called with
            the channels, gives a module.
        preserve_output: start the attention as a constant gain and divide the gain out of the matched layer, so that
            the network's output is what it was (in eval mode to float rounding). An attention whose gain is 1 goes
            behind any layer.
        gain: what the attention starts with: "published", "unit" to start as if it were not there, or a number to
            divide out, as `measure_gain` gives it for a module of your own; see `sase_attn.attentions.set_gain`. With
            "unit", `preserve_output` has nothing to divide out of the layer.
        attn_args: further arguments of the attention.
        dry_run: report what would be touched, touch nothing.

    Returns:
        What was touched, in the network's order.

    Raises:
        ValueError: nothing matched (the nearest names are given); a match has no known number of channels, carries
            attention already, has no affine weights that could absorb the gain, or shares these with a place that
            gets no attention. The network is then untouched.
        TypeError: `preserve_output` with an attention that cannot start as a constant; the message says why. Or an
            argument that the attention does not have.
        UnknownNameError: the attention is unknown.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names = matching(modules, after)
    build = attention_factory(attn, options("attn_args", attn_args))
    made: dict[int, tuple[Attached, float | None]] = {}
    divided: list[tuple[nn.Parameter, float]] = []
    report: list[Insertion] = []
    for name in names:
        host = modules[name]
        if isinstance(host, Attached):
            raise ValueError(f"{name} already has attention ({type(host.attn).__name__})")
        channels = _output_channels(name, host)
        if id(host) not in made:
            weight = next(iter(host.parameters()), torch.empty(0))
            block = build(channels, device=weight.device, dtype=weight.dtype).train(host.training)
            attached = _with_gain(host, block, gain)
            start = start_as_constant(block) * attached.scale if preserve_output else None
            made[id(host)] = attached, start
            if start is not None and (absorbing := absorbing_parameters(name, host, start)):
                check_alone(name, absorbing, modules, names)
                divided += [(host.get_parameter(parameter), start) for parameter in absorbing]
        report.append(Insertion(name, type(host).__name__, channels, made[id(host)][1]))
    if not dry_run:
        with torch.no_grad():
            for parameter, start in divided:
                parameter.div_(start)
        for name in names:
            model.set_submodule(name, made[id(modules[name])][0])
    return report


def _with_gain(host: nn.Module, attn: nn.Module, gain: str | float) -> Attached:
    if can_scale(attn):
        return Attached(host, set_gain(attn, gain))
    return Attached(host, attn, 1 / gain_of(attn, gain))


def _output_channels(name: str, host: nn.Module) -> int:
    for attribute in ("num_features", "out_channels", "num_channels"):
        channels = getattr(host, attribute, None)
        if isinstance(channels, int):
            return channels
    raise ValueError(
        f"cannot tell the output channels of {name} ({type(host).__name__}); attach after a norm or a convolution"
    )
