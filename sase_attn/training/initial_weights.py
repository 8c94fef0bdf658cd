"""`start_from`: initialise a network from saved weights, even if its classes, channels or attention differ."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from timm.models import adapt_input_conv
from torch import nn

from sase_attn.training.class_names import class_names_of, order_of, saved_class_names
from sase_attn.training.data.identity import class_differences
from sase_attn.training.data_config import NORMALISATION, take_data_config
from sase_attn.weights import read_checkpoint, warm_start
from sase_attn.weights.gains import asked_gain, take_unasked_gains
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict

HOST = "host"  # name of the layer itself, in a wrapper that adds attention to it


def start_from(
    model: nn.Module,
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    echo: Callable[[str], object] = print,
) -> None:
    """Load weights of this network, or of the same network without attention, whose outputs are then preserved.

    A classifier for another number of classes, or for other names, keeps its initial values. For the same classes in
    another order its rows are reordered; a network made without a classifier gets none. A first convolution for other
    channels is adapted as in timm. `echo` is called with a line for each of these, for attention that the weights lack,
    and for a classifier that is loaded though its class names are not known. The normalisation of images that the
    weights record is set in the `pretrained_cfg`. If no gain was asked for, attention starts with that of the weights.

    Args:
        model: a network as it was made.
        source: a file that `read_checkpoint` reads, or a folder that holds `model.safetensors`.
        classes: names of the classes that the model is for, to compare with those of the weights.
        echo: called with each line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds no weights, none that fit, or those of another genotype or gain; or the network was asked
            for another gain than the one that preserves the output.
    """
    path = Path(source)
    if path.is_dir():
        path = next((p for p in (path / "model.safetensors", path / "model" / "model.safetensors") if p.exists()), path)
    found, genotype = read_checkpoint(path, model), read_record(path)
    weights = warm_start(found, model, gain=asked_gain(model))
    if len(weights) > len(found):
        echo(f"attention: not in {path}; it starts as a constant that preserves the output of these weights")
    take_unasked_gains(genotype, model, source=str(path))
    wanted = model.state_dict()
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    for prefix in _names(cfg.get("first_conv")):
        key = f"{prefix}.weight"
        if key in weights and key in wanted and weights[key].shape[1] != wanted[key].shape[1]:
            echo(f"{key}: adapted from {weights[key].shape[1]} to {wanted[key].shape[1]} channels")
            weights[key] = adapt_input_conv(wanted[key].shape[1], weights[key])
    for prefix in _names(cfg.get("classifier")):
        keys = [key for key in wanted if key.startswith(f"{prefix}.")]
        if not keys:
            weights = {key: value for key, value in weights.items() if not key.startswith(f"{prefix}.")}
        elif any(key not in weights or weights[key].shape != wanted[key].shape for key in keys):
            echo(f"{prefix}: not taken from {path}, which has another number of classes; trained from scratch")
            weights |= {key: wanted[key] for key in keys}
        elif classes is not None:
            known = saved_class_names(path)
            if known is None:
                echo(f"{prefix}: taken from {path} by index; it does not name its classes")
            elif (order := order_of(classes, known)) is None:
                echo(f"{prefix}: not taken from {path}, whose {_other(classes, known)}; trained from scratch")
                weights |= {key: wanted[key] for key in keys}
            elif order.tolist() != sorted(order.tolist()):
                echo(f"{prefix}: taken from {path} by the names of the classes, which have another order here")
                weights |= {key: weights[key][order] for key in keys}
    check_state_dict(weights, model, source=str(path), genotype=genotype)
    model.load_state_dict(weights)
    take_data_config(model, path, NORMALISATION)


def name_head(model: nn.Module, classes: Sequence[str], *, echo: Callable[[str], object] = print) -> None:
    """Fit the classifier of a pretrained network that names its classes to those of the data, as `start_from` does."""
    known = class_names_of(model)
    if known is None or len(known) != len(classes) or known == tuple(classes):
        return
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    order = order_of(classes, known)
    for prefix in _names(cfg.get("classifier")):
        if order is None:
            echo(f"{prefix}: not pretrained, as {_other(classes, known)}; trained from scratch")
            cast(Any, model).reset_classifier(len(classes))
            return
        echo(f"{prefix}: pretrained, by the names of the classes, which have another order here")
        head = model.get_submodule(prefix)
        head.load_state_dict({key: value[order] for key, value in head.state_dict().items()})


def start_alike(model: nn.Module, other: nn.Module) -> list[str]:
    """Copy every tensor of another network that this one also has, by name and shape; returns their names in this one.

    A layer that `attach` or a placement wrapped together with attention is found: `bn3.host.weight` is `bn3.weight`.

    Raises:
        ValueError: the networks have no tensor in common.
    """
    given, own = other.state_dict(), model.state_dict()
    plain = {name: ".".join(part for part in name.split(".") if part != HOST) for name in own}
    common = [name for name in own if plain[name] in given and given[plain[name]].shape == own[name].shape]
    if not common:
        raise ValueError(f"{type(model).__name__} has no tensor in common with {type(other).__name__}")
    model.load_state_dict({name: given[plain[name]] for name in common}, strict=False)
    return common


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _other(classes: Sequence[str], known: Sequence[str]) -> str:
    return class_differences(classes, known, "the data", "the weights")
