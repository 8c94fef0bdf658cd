"""`attach`: put attention after layers of an existing network, which are chosen by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sase_attn.attentions.registry import attention_factory
from sase_attn.attentions.starting_gain import PUBLISHED
from sase_attn.genotype import Genotype
from sase_attn.insert.attached import Attached
from sase_attn.insert.channels import output_channels_of, warn_of_unreached
from sase_attn.insert.gain import divide_out, start_preserving
from sase_attn.insert.nearby import nearby_tensor
from sase_attn.modules import matching
from sase_attn.ops.arguments import options


@dataclass(frozen=True)
class Insertion:
    """One place where `attach` put attention: the layer's name and class, its output channels, the gain divided out.

    The gain is None where the output is not preserved.
    """

    name: str
    host: str
    channels: int
    gain: float | None


def attach(
    model: nn.Module,
    *,
    after: str | Sequence[str],
    attn: str | Genotype | Callable[..., nn.Module] = "sase",
    preserve_output: bool = False,
    gain: str | float | None = None,
    attn_args: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> list[Insertion]:
    """Put an attention after every module of `model` whose name matches `after`, in place.

    A module `bn3` becomes `Attached(host=bn3, attn=…)`, so that its state dict keys become `bn3.host.…`, `bn3.attn.…`.
    A module that sits in several places stays one module, with one attention.

    Args:
        model: any network, for example of timm or torchvision.
        after: a pattern or several, matched dot by dot: `"layer*.*.bn3"` is every `bn3` two levels below `layer…`.
        attn: a name of `list_attentions()`, a genotype (or its name or inline string), or a class or function that
            returns a module when it is called with the channels. The module is put on the host's device, in its type.
        preserve_output: start the attention as a constant gain and divide that gain out of its result, so that the
            network's output is what it was (in eval mode to float rounding), and the layers before learn as they did.
            Nothing of the network itself is changed.
        gain: the gain that the attention starts with: "published" (the default), "unit" to start as if the attention
            were not there, or a number to divide out, such as `measure_gain` returns for a module of your own; see
            `sase_attn.attentions.set_gain`. Leave it out with `preserve_output`.
        attn_args: further arguments of the attention.
        dry_run: report what would be changed, and change nothing.

    Returns:
        The places that were changed, in the network's order.

    Warns:
        UserWarning: a match is neither norm nor convolution, and no forward pass reaches it; it is left as it is.

    Raises:
        ValueError: nothing matched (the nearest names are given); a match has no known number of channels, has its
            channels last, or carries attention already; or `gain` is another than the one that preserves the output.
            The network is then untouched.
        TypeError: `preserve_output` with an attention that cannot start as a constant; the message says why. Or an
            argument that the attention does not have, or an `attn` that returns no module.
        UnknownNameError: the attention is unknown.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names = matching(modules, after)
    build = attention_factory(attn, options("attn_args", attn_args))
    hosts = {name: modules[name] for name in names}
    for name, host in hosts.items():
        if isinstance(host, Attached):
            raise ValueError(f"{name} already has attention ({type(host.attn).__name__})")
    channels_by_name = output_channels_of(model, hosts)
    warn_of_unreached(hosts, channels_by_name)
    made: dict[int, tuple[Attached, float | None]] = {}
    report: list[Insertion] = []
    for name, channels in ((name, channels_by_name[name]) for name in names if name in channels_by_name):
        host = hosts[name]
        if id(host) not in made:
            tensor = nearby_tensor(model, name)
            block = build(channels, device=tensor.device, dtype=tensor.dtype).train(host.training)
            made[id(host)] = _attached(host, block, gain, preserve_output)
        report.append(Insertion(name, type(host).__name__, channels, made[id(host)][1]))
    if not dry_run:
        for insertion in reversed(report):  # a module of a module that has attention too comes first
            model.set_submodule(insertion.name, made[id(hosts[insertion.name])][0])
    return report


def _attached(
    host: nn.Module, attn: nn.Module, gain: str | float | None, preserve_output: bool
) -> tuple[Attached, float | None]:
    """The layer with attention after it, and the gain that was divided out to preserve the output, if any."""
    attached = Attached(host, attn)
    if preserve_output:
        return attached, start_preserving(attached, attn, gain)
    divide_out(attached, attn, PUBLISHED if gain is None else gain)
    return attached, None
