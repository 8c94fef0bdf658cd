"""`difference`: check that a model that was loaded back is the one that was saved."""

import copy
from typing import Any

import torch
from torch import nn

from sase_attn.share.publishable import model_args


def difference(model: Any, reloaded: Any) -> str | None:
    """How a model that was loaded back differs from `model`: in tensors, attention or logits; None if it does not.

    Attention is compared by its settings, too, because tiles, for example, may not change the logits at one size.
    """
    ours, theirs = model.state_dict(), reloaded.state_dict()
    if keys := sorted(ours.keys() ^ theirs.keys()):
        return f"{len(keys)} tensors on one side only, the first {keys[0]!r}"
    for key, tensor in ours.items():
        if not torch.equal(tensor.nan_to_num(), theirs[key].to(tensor).nan_to_num()):
            return f"other values in {key!r}"
    attention, again = _attention(model), _attention(reloaded)
    for name in attention | again:
        if attention.get(name) != again.get(name):
            return f"{again.get(name, 'another module')} instead of {attention.get(name, 'another module')} in {name!r}"
    weight = next(model.parameters())
    channels, *size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    x = torch.randn(2, model_args(model).get("in_chans", channels), *size).to(weight)
    with torch.inference_mode():
        wanted, got = (copy.deepcopy(network).to(weight).eval()(x).nan_to_num() for network in (model, reloaded))
    close = (wanted - got).abs().max() <= 1e-2 * wanted.abs().max()
    return None if close else "other logits from the same weights"


def _attention(model: nn.Module) -> dict[str, str]:
    """Class and settings of each module of this package, by name; except for norms, which training may replace."""
    return {
        name: f"{type(module).__name__}({module.extra_repr()})"
        for name, module in model.named_modules()
        if type(module).__module__.startswith("sase_attn.") and not isinstance(module, nn.modules.batchnorm._NormBase)
    }
