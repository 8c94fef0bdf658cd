"""`fitted`: rename weights that were saved as part of something else to the names of the network they are for."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sase_attn.weights.genotypes import attentions_of
from sase_attn.weights.wrappers import StateDict

_COUNTER = "num_batches_tracked"
_HOST = "host"  # name of the layer itself, in a wrapper that adds attention to it


def fitted(weights: Mapping[str, Tensor], model: nn.Module, *, source: str) -> StateDict:
    """Weights with the names of a network, if these names have a common prefix in them.

    Examples are the weights of a Lightning module (`model.`) and of a classifier made of parts (`backbone.`, and
    `head.fc.` for `fc.`). Tensors that are not of the network are then left out: of a loss, a metric, another head.
    Counters of batches that old versions of torch did not write become 0. Other weights are returned unchanged, and
    `check_state_dict` reports what does not fit.

    Args:
        weights: the weights as they were read.
        model: the network that they are for, with attention or without.
        source: the name of their source, for error messages.

    Raises:
        ValueError: the weights hold several networks like this one, or several classifiers without a single one behind
            `head.`.
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
    """The name of a tensor in the network before attention was added to its layer."""
    return ".".join(part for part in name.split(".") if part != _HOST)


def is_without_attention(weights: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether weights are, by names and shapes, those of a network without its attention."""
    attention = tuple(f"{name}." for name in attentions_of(model))
    layers = {
        plain_name(key): value.shape for key, value in model.state_dict().items() if not key.startswith(attention)
    }
    return bool(attention) and {key: value.shape for key, value in weights.items()} == layers


def other_network_hint(weights: Mapping[str, Tensor], model: nn.Module) -> str:
    """A hint on the network that weights are for, if they do not fit this one; empty if it is not known."""
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
    """The prefixes of the names of the classifier's tensors, by the `pretrained_cfg` of a network."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _is_counter_of(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a tensor counts the batches of a norm whose running statistics the weights hold."""
    return name.endswith(f".{_COUNTER}") and name.removesuffix(_COUNTER) + "running_mean" in weights


def _heads(keys: Iterable[str], missing: set[str], source: str) -> dict[str, str]:
    """For each missing name the key that ends in it; of several keys, the one behind `head.`."""
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
    """The prefix behind which most of the known names are found; empty if they are found without one.

    Counters and the classifier are ignored, as the weights may lack them.
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
