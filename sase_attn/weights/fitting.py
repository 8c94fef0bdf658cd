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
        ValueError: several networks like this one are in it, or several classifiers for one made of parts and not one
            `head.` among them.
    """
    own = set(model.state_dict())
    known = own | set(map(plain_name, own))
    prefix = _prefix(weights, known, _classifiers(model), source)
    found = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if prefix:
        missing = {name for name in own - found.keys() if not _is_counter_of(name, found)}
        others = [key for key in weights if not key.startswith(prefix)]
        found |= {name: weights[key] for name, key in _heads(others, missing, source).items()}
    for name in known - found.keys():
        if _is_counter_of(name, found):
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
    classifiers = _classifiers(model)
    if wanted.keys() == weights.keys() and len(classifiers) == 1:
        sizes = {len(weights[key]) for key in differing}
        if len(sizes) == 1 and all(key.startswith(classifiers) for key in differing):
            return f"make the network with num_classes={sizes.pop()}"
    return ""


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """What the names of the classifier's tensors begin with, where a network says it."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _is_counter_of(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a tensor counts the batches of a norm whose statistics are there."""
    return name.endswith(f".{_COUNTER}") and name.removesuffix(_COUNTER) + "running_mean" in weights


def _heads(keys: Iterable[str], missing: set[str], source: str) -> dict[str, str]:
    """By the missing names, the keys that end in them; of several the one behind `head.`."""
    candidates: dict[str, list[str]] = {}
    for key in keys:
        ends = (key[place + 1 :] for place, letter in enumerate(key) if letter == ".")
        if (name := next((end for end in ends if end in missing), None)) is not None:
            candidates.setdefault(name, []).append(key)
    chosen = {}
    for name, several in candidates.items():
        heads = [key for key in several if f".{key}".endswith(f".head.{name}")]
        best = heads if len(several) > 1 and heads else several
        if len(best) > 1:
            raise ValueError(f"{source} holds several {name} ({', '.join(best[:4])}): save the one to load")
        chosen[name] = best[0]
    return chosen


def _prefix(names: Iterable[str], known: set[str], classifiers: tuple[str, ...], source: str) -> str:
    """The prefix behind which most of the known names are; none where they are so as they are.

    Counters and the classifier do not count: without them it is still such a network.
    """
    body = {name for name in known if not name.endswith(f".{_COUNTER}") and not name.startswith(classifiers)}
    found = Counter(
        ".".join(parts[:place])
        for parts in (name.split(".") for name in names)
        for place in range(len(parts))
        if ".".join(parts[place:]) in body
    )
    if not found or found[""] == max(found.values()):
        return ""
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if len(best) > 1 and most > 1:
        raise ValueError(f"{source} holds several such networks ({', '.join(best[:4])}): save the one to load")
    return f"{best[0]}."
