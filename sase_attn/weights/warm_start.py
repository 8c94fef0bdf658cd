"""`warm_start`: complete the weights of a network with less attention, or none, for the same network with more."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.block import SASEBlock
from sase_attn.insert.attached import Attached
from sase_attn.insert.gain import start_preserving
from sase_attn.weights.gains import remember_gain
from sase_attn.weights.genotypes import check_record, record_of_config
from sase_attn.weights.wrappers import StateDict

_HOST = ".host"


def warm_start(
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    *,
    preserve_output: bool = True,
    gain: str | float | None = None,
) -> StateDict:
    """Weights of a network with less attention, or none, completed for `model`, the same network with more.

    Every attention that the weights lack starts as a constant gain, which is divided out of its result (its `scale`),
    so that in eval mode the outputs are those of the original network. Its weights are unchanged, and learn as before.
    The weights may lack all attention, or that which was attached after a layer. Other weights are returned unchanged.
    The signature is that of timm's `pretrained_filter_fn`; `state_dict` is not changed.

    Args:
        state_dict: the state dict of the original network.
        model: the network with attention after its layers, made by `attach`, or in the `se` slot of a residual block.
        preserve_output: False lets every attention start as it was built.
        gain: the gain that the network was asked to start with, if any; another one than the constant's is an error.

    Raises:
        TypeError: an attention of `model` cannot start as a constant; the message says why.
        ValueError: another gain was asked for, or is divided out of an attention already.
    """
    weights = dict(state_dict)
    lacking = _lacking(weights, _attention_slots(model))
    for name in lacking:
        attn = model.get_submodule(name)
        if preserve_output:
            start_preserving(model.get_submodule(name.rpartition(".")[0]), attn, gain)
        weights |= {f"{name}.{key}": value.clone() for key, value in attn.state_dict().items()}
    if preserve_output and gain is None:
        remember_gain(model, lacking)
    return weights


def _lacking(weights: StateDict, slots: Sequence[tuple[str, str]]) -> list[str]:
    """The names of attentions that weights lack. Names of layers before attached ones are adapted, in place."""
    attached = [slot for slot in slots if slot[0].endswith(_HOST)]
    rest = [slot for slot in slots if slot not in attached]
    attached_before, found = _hold_attention(weights, attached), []
    for host, attn in attached:
        if _hold_attention(weights, [(host, attn)]):
            continue
        start = f"{host.removesuffix(_HOST)}."
        of_layer = [key for key in weights if key.startswith(start)]
        for key in of_layer:
            weights[f"{host}.{key.removeprefix(start)}"] = weights.pop(key)
        if of_layer or not attached_before:
            found.append(attn)
    if not attached_before and not _hold_attention(weights, rest):
        found += [attn for _, attn in rest]
    return found


def fit_pretrained(state_dict: Mapping[str, Tensor], model: nn.Module, *, gain: str | float | None = None) -> StateDict:
    """`warm_start` as timm's `pretrained_filter_fn`, for the weights that `model.pretrained_cfg` names.

    Raises:
        TypeError: as `warm_start`.
        ValueError: as `warm_start`; or the weights are of another genotype or gain, by their record.
    """
    check_pretrained(state_dict, model)
    return warm_start(state_dict, model, gain=gain)


def check_pretrained(state_dict: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise ValueError if weights that `model.pretrained_cfg` names are, by their record, of another genotype."""
    config = getattr(model, "pretrained_cfg", None) or {}
    if _hold_attention(state_dict, _attention_slots(model)):
        source = config.get("file") or config.get("hf_hub_id") or "the pretrained model"
        check_record(record_of_config(config), model, source=str(source))


def without_replaced(state_dict: Mapping[str, Tensor], model: nn.Module, replaced: Iterable[str]) -> StateDict:
    """Weights of a network before `replace`, completed for `model`, the network after it.

    Weights of the old modules, whose names are `replaced`, are dropped; the new ones keep those they were built with.
    """
    weights = dict(state_dict)
    for name in replaced:
        weights = {key: value for key, value in weights.items() if not key.startswith(f"{name}.")}
        new = model.get_submodule(name).state_dict()
        weights |= {f"{name}.{key}": value.clone() for key, value in new.items()}
    return weights


def _hold_attention(weights: Iterable[str], slots: Iterable[tuple[str, str]]) -> bool:
    """Whether weights, by their names, include attention in these slots."""
    own = tuple(f"{name}." for host, attn in slots for name in (attn, *([host] if host.endswith(_HOST) else [])))
    return any(key.startswith(own) for key in weights)


def _attention_slots(model: nn.Module) -> list[tuple[str, str]]:
    """Pairs (layer, attention after it) for all attached attention, and for the `se` slot of timm's residual blocks."""
    slots = []
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Attached):
            slots.append((f"{name}{_HOST}", f"{name}.attn"))
        elif isinstance(getattr(module, "se", None), SASEBlock | Attention):
            children = [child for child, _ in module.named_children()]
            norm = "bn3" if "bn3" in children else "bn2"
            if norm in children[: children.index("se")]:  # in MobileNets `se` comes before the last norm
                slots.append((f"{name}.{norm}", f"{name}.se"))
    return slots
