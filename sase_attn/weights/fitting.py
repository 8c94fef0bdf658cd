"""Weights under the names of a network that they are for, where they were saved as a part of something else."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sase_attn.weights.genotypes import attentions_of
from sase_attn.weights.wrappers import StateDict

_COUNTER = "num_batches_tracked"
_HOST = "host"  # the layer itself, where attention was put beside it


def fitted(weights: Mapping[str, Tensor], model: nn.Module, *, source: str) -> StateDict:
    """Weights with the names that a network has, if they have these behind a common prefix.

    So are those of a Lightning module (`model.`) and of a classifier made of parts (`backbone.`, and `head.fc.` for
    `fc.`). What then is not the network's own is left out: a loss, a metric, another head. Counters of batches that old
    versions of torch did not write are 0. Other weights are returned as they are, and `check_state_dict` says what does
    not fit.

    Args:
        weights: as they were read.
        model: the network that they are for, with attention or not.
        source: where they are from, for the message.

    Raises:
        ValueError: several networks like this one are in it.
    """
    own = set(model.state_dict())
    known = own | set(map(plain_name, own))
    prefix = _prefix(weights, known, source)
    found = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if prefix:
        for key, value in weights.items():
            ends = [key[place + 1 :] for place, letter in enumerate(key) if letter == "."]
            match = next((end for end in ends if end in own and end not in found), None)
            if match is not None and not key.startswith(prefix):
                found[match] = value
    counters = [name for name in known if name.endswith(f".{_COUNTER}") and name not in found]
    for name in counters:
        if name.removesuffix(_COUNTER) + "running_mean" in found:
            found[name] = torch.tensor(0)
    return found


def plain_name(name: str) -> str:
    """The name that a tensor has in the network before attention was put beside its layer."""
    return ".".join(part for part in name.split(".") if part != _HOST)


def is_without_attention(weights: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether weights are, by names and shapes, those that a network would have without its attention."""
    attention = tuple(f"{name}." for name in attentions_of(model))
    layers = {
        plain_name(key): value.shape for key, value in model.state_dict().items() if not key.startswith(attention)
    }
    return bool(attention) and {key: value.shape for key, value in weights.items()} == layers


def way_out(weights: Mapping[str, Tensor], model: nn.Module) -> str:
    """Which network weights are for that do not fit this one, where that is known; else nothing."""
    wanted = model.state_dict()
    differing = [key for key, value in wanted.items() if key in weights and value.shape != weights[key].shape]
    if wanted.keys() < weights.keys() and not differing:
        return "they are of a network that has more than this one, such as attention: name that"
    classifier = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if wanted.keys() == weights.keys() and isinstance(classifier, str):
        sizes = {len(weights[key]) for key in differing}
        if len(sizes) == 1 and all(key.startswith(f"{classifier}.") for key in differing):
            return f"make the network with num_classes={sizes.pop()}"
    return ""


def _prefix(names: Iterable[str], known: set[str], source: str) -> str:
    """The prefix behind which most of the known names are; none where they are so as they are."""
    found = Counter(
        ".".join(parts[:place])
        for parts in (name.split(".") for name in names)
        for place in range(len(parts))
        if ".".join(parts[place:]) in known
    )
    if not found or found[""] == max(found.values()):
        return ""
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if len(best) > 1 and most > 1:
        raise ValueError(f"{source} holds several such networks ({', '.join(best[:4])}): save the one to load")
    return f"{best[0]}."
