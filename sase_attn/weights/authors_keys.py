"""`block_keys`: names of parameters in the authors' release and here; `fitting_ops`: operations that they may be of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sase_attn.genotype import EDGES, Genotype
from sase_attn.ops import RELEASE_OPS, create_op
from sase_attn.ops.op import differs_in_size
from sase_attn.release_notation import EDGES as NUMBERED

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_REST = {"mixer.0.weight": "mix.weight", **{f"mixer.1.{name}": f"norm.{name}" for name in _NORM}}


def _second_order(axis: str) -> dict[str, str]:
    norm = {f"row_bn_for_{axis}.{name}": f"second_order.norm.{name}" for name in _NORM}
    return norm | {
        f"row_conv_group_for_{axis}.weight": "second_order.rows.weight",
        f"fc_adapt_channels_for_{axis}.weight": "second_order.fc.weight",
    }


def _layers(*names: str) -> dict[str, str]:
    return {
        f"{name}.weight": f"rest.{place - 1}.weight" if place else "first.weight" for place, name in enumerate(names)
    }


_AFFINE = {"alpha": "alpha", "beta": "beta"}
_KEYS: dict[str, dict[str, dict[str, str]]] = {
    "channel_squeeze": {
        "gap": {},
        "l4": {},
        **dict.fromkeys(("gap_gmp", "gap_std", "gap_skew"), {"mixer.mixer.0.weight": "mixer.weight"}),
        "l2norm": {f"instanceNorm.{name}": name for name in ("weight", "bias")},
        "gsop": _second_order("channel"),
    },
    "channel_excite": {
        "fc": {"0.weight": "fc1.weight", "2.weight": "fc2.weight"},
        **dict.fromkeys(("conv1d_k3", "conv1d_k5", "conv1d_k7"), _layers("conv1D.0")),
        "conv1d_k3_x2": _layers("conv1D_1.0", "conv1D_2.0"),
        "conv1d_k3_x3": _layers("conv1D_1.0", "conv1D_2.0", "conv1D_3.0"),
        "affine": _AFFINE,
    },
    "spatial_squeeze": {
        "gap": {},
        "l4": {},
        **dict.fromkeys(("gap_gmp", "gap_std", "gap_skew"), {"mixer.0.weight": "mixer.weight"}),
        "l2norm": {f"layerNorm.{name}": name for name in ("weight", "bias")},
        "gsop": _second_order("spatial"),
    },
    "spatial_excite": {
        **dict.fromkeys(("conv2d_k3", "conv2d_k5", "conv2d_k7"), _layers("0")),
        "conv2d_k3_x2": _layers("0", "2"),
        **dict.fromkeys(("sep_k3", "sep_k5"), _layers("0", "1")),
        "affine": _AFFINE,
    },
}


def block_keys(genotype: Genotype) -> dict[str, str]:
    """Our names of the parameters of a block, by the authors'. Raises KeyError if the release lacks an operation."""
    keys = dict(_REST)
    for number, edge in enumerate(NUMBERED):
        of_op = _KEYS[EDGES[edge]][getattr(genotype, edge)]
        keys |= {f"_ops.{number}.{theirs}": f"{edge}.{ours}" for theirs, ours in of_op.items()}
    return keys


def fitting_ops(block: Mapping[str, Tensor], channels: int) -> dict[str, list[str]]:
    """For each edge, the operations that have the parameters of a block of the authors, by names and shapes.

    Args:
        block: a block's parameters by the authors' names.
        channels: the number of channels of the block.
    """
    found = {}
    for number, edge in enumerate(NUMBERED):
        start = f"_ops.{number}."
        given = {key.removeprefix(start): value for key, value in block.items() if key.startswith(start)}
        names = RELEASE_OPS[EDGES[edge]]
        found[edge] = [name for name in names if _has(EDGES[edge], name, given, channels)]
    return found


def _has(op_set: str, name: str, given: Mapping[str, Tensor], channels: int) -> bool:
    keys = _KEYS[op_set][name]
    counted = {key for key in keys if key.endswith("num_batches_tracked")}
    if not keys.keys() - counted <= given.keys() <= keys.keys():
        return False
    own: nn.Module = create_op(op_set, name, channels=channels, device=torch.device("meta"))
    shapes = {key: value.shape for key, value in own.state_dict().items()}
    sized: tuple[str, ...] = getattr(own, "per_position", ())
    return all(
        value.shape == shapes[keys[key]] or (keys[key] in sized and differs_in_size(shapes[keys[key]], value.shape))
        for key, value in given.items()
    )
