"""`attached`: any timm network with attention inserted, replaced or tiled, reproducible by its arguments alone."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import timm
from timm.models import PretrainedCfg, build_model_with_cfg, get_pretrained_cfg, register_model
from torch import Tensor, nn

from sase_attn.attentions.starting_gain import PUBLISHED
from sase_attn.errors import unknown_name
from sase_attn.insert.attach import attach
from sase_attn.insert.replace import replace as replace_attention
from sase_attn.models.feature_maps import feature_cfg_of
from sase_attn.models.names import check_name
from sase_attn.models.pretrained_files import arguments_of_tag, named_config
from sase_attn.quoting import enumerated
from sase_attn.tiling.convert import tile as tile_attention
from sase_attn.weights import warm_start
from sase_attn.weights.genotypes import check_record, record_of_config
from sase_attn.weights.warm_start import check_pretrained, without_replaced

__all__: list[str] = []  # filled by register_model

_EVERY_BOTTLENECK = "layer*.*.bn3"
_TILE_ARGS = ("rows", "columns", "count", "overrides")


@register_model
def attached(
    pretrained: bool = False,
    *,
    base: str = "resnet50",
    base_gain: str | float | None = None,
    after: str | Sequence[str] | None = None,
    replace: str | None = None,
    tile: Mapping[str, Any] | None = None,
    attn: str | None = None,
    gain: str | float | None = None,
    attn_args: Mapping[str, Any] | None = None,
    only: str | Sequence[str] | None = None,
    keep_weights: bool | None = None,
    preserve_output: bool | None = None,
    pretrained_cfg: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """A timm network with attention behind layers (`after`), in place of its own (`replace`), or tiled (`tile`).

    Arguments are JSON-able, so that `save_for_hf`, `local-dir:` and `hf-hub:` reproduce the network. Modules are tiled
    before attention is attached.

    With `pretrained=True` it starts from the base's weights. Attached attention then preserves the outputs, and what
    the base learns in one step of SGD. Replaced modules keep their weights as `replace` says, or start with new ones.
    Tiled modules and the base's own attention keep them.

    Args:
        base: a model of timm's registry, with or without a pretrained tag.
        base_gain: the `gain` of the base's own attention, if the base has this argument.
        after: pattern(s) of module names in it, see `sase_attn.attach`; `"layer*.*.bn3"` if nothing else is asked for.
        replace: a kind of attention, such as "se", see `sase_attn.replace`.
        tile: arguments of `sase_attn.tile`, such as {"rows": 7, "count": 6}.
        attn: the attention to attach or to put in place: a name, or a genotype's inline string; "sase" by default.
        gain: "published" by default, "unit" to start as if the attention were not there, or a number to divide out; see
            `sase_attn.attentions.set_gain`. Attention that preserves the outputs fixes it itself.
        attn_args: further arguments of the attention.
        only, keep_weights: see `sase_attn.replace`.
        preserve_output: False lets attached attention start as it is built when pretrained weights are loaded; needed
            for attention that cannot be a constant.

    Raises:
        UnknownNameError: no such base, attention or kind, or no module of that name.
        ValueError: arguments that exclude each other, or a `base_gain` that is not that of the base's weights; see also
            `attach`, `replace` and `tile`.
        TypeError: an argument that is not a name, or that `tile` or the attention does not have.
    """
    if not isinstance(attn, str | None):
        raise TypeError(f"models take attention as a string, to be reproducible; pass str(genotype), not {attn!r}")
    if not isinstance(replace, str | None):
        raise TypeError(f"models take the kind to replace as a string, to be reproducible, not {replace!r}")
    if after is None and replace is None and tile is None:
        after = _EVERY_BOTTLENECK
    _check_combination(
        attends={"after": after, "replace": replace},
        needs_either={"attn": attn, "gain": gain, "attn_args": attn_args},
        needs_replace={"only": only, "keep_weights": keep_weights},
        needs_after={"preserve_output": preserve_output},
    )
    attention = "sase" if attn is None else attn
    tile_args = None if tile is None else _tile_args(tile)
    architecture = base.partition(".")[0]
    bases = [name for name in timm.list_models() if name != "attached"]
    if architecture == "attached":
        raise unknown_name("base model", base, bases)
    check_name(base, bases, "base model")
    of_base, base_cfg = isinstance(pretrained_cfg, str | None), None
    if of_base:
        base_cfg = get_pretrained_cfg(named_config(base, pretrained))
        pretrained_cfg = None
        if base_cfg is not None:
            if base == architecture and arguments_of_tag(f"{base}.{base_cfg.tag}"):
                raise ValueError(f'base: wanted the tag of its weights too, as "{base}.{base_cfg.tag}", got {base!r}')
            pretrained_cfg = dataclasses.replace(base_cfg, architecture="attached", tag=None).to_dict()
    of_base = of_base and not kwargs.get("pretrained_cfg_overlay")
    anew: list[str] = []
    behind: list[str] = []
    own_args = arguments_of_tag(base) | ({} if base_gain is None else {"gain": base_gain})

    def build(**model_args: Any) -> nn.Module:
        try:
            model = timm.create_model(architecture, pretrained=False, **own_args, **model_args)
        except TypeError as error:
            if base_gain is not None and "'gain'" in str(error):
                raise ValueError(f"base_gain={base_gain!r}: {architecture} takes no gain") from None
            raise
        if pretrained and base_cfg is not None:
            _check_base(model, base_cfg, base, base_gain)
        for name in own_args:  # arguments of the base, which its tag or `base_gain` sets again
            del model._model_args[name]
        if replace is not None:
            replaced = replace_attention(
                model,
                replace,
                with_=attention,
                gain=PUBLISHED if gain is None else gain,
                keep_weights=keep_weights,
                only=only,
                attn_args=attn_args,
            )
            anew.extend(replacement.name for replacement in replaced if not replacement.kept)
        if tile_args is not None:
            tile_attention(model, **tile_args)
        if after is not None:
            report = attach(model, after=after, attn=attention, gain=gain, attn_args=attn_args)
            behind.extend(insertion.name for insertion in report)
        return model

    def fit(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """Weights of the base, or of this very network, for `model`."""
        own = not of_base and (
            not anew or any(_holds(state_dict, f"{name}.", model.get_submodule(name)) for name in anew)
        )
        if own:
            check_pretrained(state_dict, model)
        _name_first_convolution(model, behind)
        weights = dict(state_dict) if own else without_replaced(state_dict, model, anew)
        try:
            return warm_start(weights, model, preserve_output=preserve_output is not False, gain=gain)
        except TypeError as error:  # on which timm would try again with other arguments
            raise ValueError(
                f"{error}; pass preserve_output=False to start from the base's weights all the same"
            ) from None

    if kwargs.get("features_only") and not {"feature_cfg", "feature_cls"} & kwargs.keys():
        kwargs["feature_cfg"] = feature_cfg_of(architecture, kwargs)
        kwargs.pop("out_indices", None)
    model = build_model_with_cfg(
        build, "attached", pretrained, pretrained_cfg=pretrained_cfg, pretrained_filter_fn=fit, **kwargs
    )
    _name_first_convolution(model, behind)
    return model


def _check_base(model: nn.Module, config: PretrainedCfg, base: str, base_gain: str | float | None) -> None:
    """Raise ValueError if weights of a base are, by their record, of other attention than the base as it is made."""
    try:
        check_record(record_of_config(config.to_dict()), model, source=base)
    except ValueError as error:
        if base_gain is None:
            raise
        raise ValueError(f"base_gain={base_gain!r}: {error}, or leave base_gain out") from None


def _name_first_convolution(model: nn.Module, behind: Collection[str]) -> None:
    """Tell timm where the first convolution is, once attention was attached behind it.

    By this name its weights are adapted to other channels.
    """
    places: list[dict[str, Any]] = [getattr(model, name, None) or {} for name in ("pretrained_cfg", "_traits")]
    for values in places:
        first = values.get("first_conv")
        names = [first] if isinstance(first, str) else list(first or ())
        named = [f"{name}.host" if name in behind else name for name in names]
        if named != names:
            values["first_conv"] = named[0] if isinstance(first, str) else tuple(named)


def _check_combination(
    attends: Mapping[str, Any],
    needs_either: Mapping[str, Any],
    needs_replace: Mapping[str, Any],
    needs_after: Mapping[str, Any],
) -> None:
    """Refuse arguments that exclude each other or would have no effect."""
    given = [name for name, value in attends.items() if value is not None]
    if len(given) == 2:
        raise ValueError(
            "pass either after=, to attach attention, or replace=, to put it in the place of other, not both"
        )
    for wanted, arguments in (
        (("after", "replace"), needs_either),
        (("replace",), needs_replace),
        (("after",), needs_after),
    ):
        for name, value in arguments.items():
            if value is not None and not set(given) & set(wanted):
                raise ValueError(f"{name}={value!r} has an effect only with {enumerated(wanted, 'or')}")


def _holds(weights: Mapping[str, Tensor], prefix: str, module: nn.Module) -> bool:
    """Whether `weights` have, under `prefix`, exactly the names and shapes of the tensors of `module`."""
    given = {key: value.shape for key, value in weights.items() if key.startswith(prefix)}
    return given == {key: value.shape for key, value in module.state_dict(prefix=prefix).items()}


def _tile_args(tile: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(tile, Mapping):
        raise TypeError(f'tile takes arguments of sase_attn.tile, such as {{"rows": 7}}, got {tile!r}')
    for name in tile:
        if name not in _TILE_ARGS:
            raise unknown_name("argument of tile", name, _TILE_ARGS)
    return dict(tile)
