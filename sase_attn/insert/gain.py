"""An attention that starts as a constant gain, and the layer before it that is divided by that gain."""

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
    gain = float(zero_gates())
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
