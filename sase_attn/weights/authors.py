"""`import_checkpoint`: convert checkpoints of the authors (github.com/pusheng0902/SASE) for models of this package."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import timm
from torch import Tensor

from sase_attn.errors import unknown_name
from sase_attn.genotype import Genotype, genotypes
from sase_attn.quoting import enumerated
from sase_attn.weights.authors_keys import block_keys, fitting_ops
from sase_attn.weights.files import new_safetensors
from sase_attn.weights.fitting import fitted
from sase_attn.weights.state_dicts import check_state_dict, read_checkpoint, write_safetensors
from sase_attn.weights.wrappers import StateDict

_SEARCHED = genotypes["sase"]


class Imported(NamedTuple):
    """What was written: the number of tensors, and the arguments of the network."""

    tensors: int
    arguments: dict[str, str | int]


def from_authors(state_dict: Mapping[str, Tensor], genotype: Genotype = _SEARCHED) -> StateDict:
    """Weights of the authors' code (github.com/pusheng0902/SASE) under the keys of this library; no value changes.

    Args:
        state_dict: the authors' state dict.
        genotype: the genotype that it was trained with.

    Raises:
        ValueError: a key below `attention.` is not one of the genotype's block, or the release has no such block.
    """
    genotype.to_release()  # raises ValueError for what the release does not have
    keys, weights = block_keys(genotype), {}
    for key, value in state_dict.items():
        block, found, rest = key.partition(".attention.")
        if found:
            if rest not in keys:
                raise ValueError(f"{key} is no key of the authors' block with {genotype}")
            key = f"{block}.se.{keys[rest]}"
        weights[key] = value
    return weights


def genotype_of(state_dict: Mapping[str, Tensor], genotype: Genotype | None = None, *, source: str) -> Genotype:
    """The genotype that weights of the authors were trained with: the given one, or by default the searched one.

    The weights must fit it. Weights alone do not determine it, as not every operation has parameters.

    Args:
        state_dict: the authors' state dict.
        genotype: the genotype that they are supposed to have.
        source: the name of their source, for error messages.

    Raises:
        ValueError: they are of another genotype; the message says which operations they fit.
    """
    wanted = genotype or _SEARCHED
    start = next((key.partition(".attention.")[0] for key in state_dict if ".attention." in key), None)
    if start is None:
        return wanted  # without attention, which `check_state_dict` reports
    prefix = f"{start}.attention."
    block = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    norms = [state_dict[key] for key in (f"{start}.bn3.weight", f"{start}.bn2.weight") if key in state_dict]
    if not norms:
        return wanted
    fitting = fitting_ops(block, len(norms[0]))
    other = {edge: names for edge, names in fitting.items() if getattr(wanted, edge) not in names}
    if not other:
        return wanted
    words = [
        f"{edge} {enumerated(names, 'or') if names else 'of no operation of the release'}"
        for edge, names in other.items()
    ]
    named = "the one given" if genotype else "the searched one"
    raise ValueError(
        f"{source} is of another genotype than {named}: its weights are of {', '.join(words)}; "
        "say by genotype (--genotype) with which it was trained, also as [('GAP+GMP', 0), …]"
    )


def import_checkpoint(
    source: str | os.PathLike[str],
    model_name: str,
    output: str | os.PathLike[str],
    *,
    genotype: Genotype | None = None,
    overwrite: bool = False,
) -> Imported:
    """Convert a checkpoint of the authors to safetensors for one of our models.

    A checkpoint without a classifier, such as that of a detector's backbone, is for a model with `num_classes=0`. Other
    parts of a detector than its backbone are left out.

    Args:
        source: the authors' checkpoint, for example `pnorm_imgnet_r50.pth`.
        model_name: the model that it is for, for example "sase_resnet50"; keys and shapes are checked against it.
        output: the `.safetensors` file to write, atomically.
        genotype: the genotype that it was trained with, by default the searched one.
        overwrite: replace an existing file.

    Raises:
        FileNotFoundError: no such source or output folder. FileExistsError: the output exists.
        ValueError: the output is not named `.safetensors`; the source is unreadable, of another genotype, or its keys
            or shapes are not the model's, in which case each is named.
        UnknownNameError: no such model.
    """
    output = new_safetensors(output, overwrite=overwrite)
    if not timm.is_model(model_name):
        raise unknown_name("model", model_name, timm.list_models("sase_*"))
    theirs = read_checkpoint(source)
    genotype = genotype_of(theirs, genotype, source=str(source))
    arguments: dict[str, str | int] = {} if genotype == _SEARCHED else {"genotype": str(genotype)}
    model = timm.create_model(model_name, device="meta", **arguments)
    weights = fitted(from_authors(theirs, genotype), model, source=str(source))
    classes = len(weights["fc.weight"]) if "fc.weight" in weights else 0
    if classes != getattr(model, "num_classes", classes):
        arguments["num_classes"] = classes
        model = timm.create_model(model_name, device="meta", **arguments)
    check_state_dict(weights, model, source=str(source))
    write_safetensors(weights, output, metadata={"architecture": model_name}, model=model)
    return Imported(len(weights), arguments)
