"""An attention that starts as a constant gain, and the layer before it that is divided by that gain."""

from collections.abc import Collection, Mapping, Sequence

from torch import nn


def start_as_constant(attn: nn.Module) -> float:
    """Make an attention start as a constant gain, and return it.

    Raises:
        TypeError: it has no `zero_gates()`, or says there why it cannot.
        ValueError: that gain is 0, which no layer can make up for.
    """
    zero_gates = getattr(attn, "zero_gates", None)
    if zero_gates is None:
        raise TypeError(f"{type(attn).__name__} cannot start as a constant: it has no zero_gates() method")
    gain = float(zero_gates()) * float(getattr(attn, "scale", 1.0))
    if gain == 0:
        raise ValueError(f"{type(attn).__name__} starts as zero, which no layer before it can make up for")
    return gain


def absorbing_parameters(name: str, host: nn.Module, gain: float) -> list[str]:
    """Names of the parameters of a layer to divide by the gain of an attention behind it: none for a gain of 1.

    Raises:
        ValueError: no parameters of the layer scale its output.
    """
    if gain == 1:
        return []
    activation = getattr(host, "act", nn.Identity())
    if getattr(host, "weight", None) is None or not isinstance(activation, nn.Identity | nn.ReLU):
        raise ValueError(
            f"{name} ({type(host).__name__}) cannot absorb a gain of {gain:g}: preserve_output needs a norm with "
            "affine weights or a convolution, without an activation other than ReLU"
        )
    return ["weight"] if getattr(host, "bias", None) is None else ["weight", "bias"]


def check_alone(
    name: str, absorbing: Sequence[str], modules: Mapping[str, nn.Module], attended: Collection[str]
) -> None:
    """Raise ValueError if the parameters that a layer is to divide work in a place without that attention too.

    Args:
        name: of the layer.
        absorbing: names of these parameters in it.
        modules: all of the network by name, shared ones under each of their names.
        attended: names of those that get attention.
    """
    host = modules[name]
    covered = {_place(other, modules) for other in attended}
    weights = {id(host.get_parameter(parameter)) for parameter in absorbing}
    for other, module in modules.items():
        shares = any(id(parameter) in weights for parameter in module.parameters(recurse=False))
        if shares and (module is not host or _place(other, modules) not in covered):
            raise ValueError(
                f"{name} shares its weights with {other or 'the model'}, whose output would change: preserve_output "
                "needs a layer that is used where it gets attention only; match every name of a shared module"
            )


def _place(name: str, modules: Mapping[str, nn.Module]) -> tuple[int, str]:
    """The same for two names of one attribute of a module that is shared itself."""
    parent, _, attribute = name.rpartition(".")
    return id(modules[parent]), attribute
