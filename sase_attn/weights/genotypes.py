"""The record of genotype and gain, which is saved with weights, and compared before they are loaded.

Weights of two genotypes may have the same names and shapes, such as those of "sase_paper" and "sase". So may those of
one attention with two starting gains, which differ in the `scale` of its result. A record is text: the genotype of all
SASE blocks of a network as an inline string, followed by ",scale:…" if that is not 1; for other attention only
"scale:…". If the attentions of a network differ, it is a JSON object of such strings by module name. It is in the
header of a safetensors file, in a checkpoint, and in `notes` of a published model's configuration. Weights without a
record are loaded without a comparison.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sase_attn.attention import Attention
from sase_attn.attentions.constant import Constant
from sase_attn.block import SASEBlock
from sase_attn.genotype import EDGES
from sase_attn.insert.attached import Attached
from sase_attn.insert.gain import scale_of
from sase_attn.weights.files import is_safetensors, read_file, read_metadata

KEY = "genotype"
_NOTE = "sase-attn attention: "
SCALE = "scale"


def record_of(model: nn.Module) -> dict[str, str]:
    """The record of a network under its key, for the metadata of a file.

    It is empty if the network has no attention of this package, and no other attention with a scale.
    """
    found = attentions_of(model)
    texts = {n: _text(*pair) for n, pair in found.items() if _is_ours(pair[1]) or scale_of(*pair) != 1}
    if not texts:
        return {}
    uniform = len(texts) == len(found) and len(set(texts.values())) == 1
    return {KEY: next(iter(texts.values())) if uniform else json.dumps(texts)}


def read_record(source: Path) -> str | None:
    """The record of a weights file or of the `model.safetensors` in a folder; None if there is none.

    It is None, too, for a file that cannot be read: reading its tensors then raises the error.
    """
    if source.is_dir():
        source = source / "model.safetensors"
    try:
        content: object = read_metadata(source) if is_safetensors(source) else read_file(source, "meta")
    except (OSError, ValueError):
        return None
    found = content.get(KEY) if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def check_record(record: str | None, model: nn.Module, *, source: str) -> None:
    """Raise ValueError, saying how, if weights with this record are of another attention than the network's."""
    if record is None:
        return
    attentions = attentions_of(model)
    saved = parsed(record, source, attentions)
    for name, (holder, attn) in attentions.items():
        wanted = _text(holder, attn)
        text = saved if isinstance(saved, str) else saved.get(name, wanted)
        if not _is_ours(attn) and not text.startswith(f"{SCALE}:"):
            continue
        if text != wanted:
            where = "" if isinstance(saved, str) else f" in {name}"
            raise ValueError(f"{source} holds weights of another {_difference(text, wanted, where)}")


def noted(model: nn.Module) -> dict[str, Any]:
    """The entry for a network's record in the `pretrained_cfg` of a published configuration."""
    others = [note for note in getattr(model, "pretrained_cfg", {}).get("notes") or () if not _is_record(note)]
    notes = others + [_NOTE + record for record in record_of(model).values()]
    return {"notes": notes} if notes else {}


def record_of_config(config: Mapping[str, Any]) -> str | None:
    """The record of the weights that a `pretrained_cfg` names: from their file if it is on disk, else from its notes.

    It is None for a `pretrained_cfg` that holds the tensors themselves.
    """
    if config.get("state_dict"):
        return None
    file = config.get("file")
    found = read_record(Path(file)) if isinstance(file, str) else None
    notes = [note.removeprefix(_NOTE) for note in config.get("notes") or () if _is_record(note)]
    return notes[0] if found is None and notes and (file is None or Path(file).is_dir()) else found


def _is_record(note: object) -> bool:
    return isinstance(note, str) and note.startswith(_NOTE)


def attentions_of(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Each attention of this package, or attached, after the module that holds it, by name."""
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Attached):
            found[f"{name}.attn".removeprefix(".")] = module, module.attn
        elif _is_ours(module):
            found.setdefault(name, (model.get_submodule(name.rpartition(".")[0]), module))
    return found


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, SASEBlock | Attention)


def _text(holder: nn.Module, attn: nn.Module) -> str:
    """The record of an attention."""
    scale = scale_of(holder, attn)
    text = f"{SCALE}:{scale * fixed_factor(attn):.9g}"
    if not isinstance(attn, SASEBlock):
        return text
    return str(attn.genotype) + (f",{text}" if scale != 1 else "")


def fixed_factor(attn: nn.Module) -> float:
    """The factor of a constant that is not learned, and so is not among the weights."""
    return attn.value if isinstance(attn, Constant) and attn.factor is None else 1.0


def fields_of(text: str) -> dict[str, str]:
    """The parts of the record of one attention, by their names."""
    return dict(part.partition(":")[::2] for part in text.split(","))


def parsed(record: str, source: str, names: Iterable[str]) -> str | dict[str, str]:
    """Parse a record: one text for all attentions, or texts by name. Raises ValueError if it is damaged.

    If the network of these names was part of another one, such as a detector, the prefix is dropped.
    """
    if not record.startswith("{"):
        return record
    try:
        by_name = json.loads(record)
    except ValueError:
        by_name = None
    if not isinstance(by_name, dict) or not all(isinstance(text, str) for text in by_name.values()):
        raise ValueError(f"{source} has a damaged record of its genotype: wanted a genotype, got {record[:80]!r}")
    prefixes = {key.removesuffix(name) for key in by_name for name in names if f".{key}".endswith(f".{name}")}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    return {key.removeprefix(prefix): text for key, text in by_name.items()}


def _difference(saved: str, wanted: str, where: str) -> str:
    """How two records of an attention differ, and how to make the network instead, in words."""
    theirs, ours = fields_of(saved), fields_of(wanted)
    gains = [1 / float(found.pop(SCALE, "1")) for found in (theirs, ours)]
    differing = [
        f"{edge} (saved {theirs.get(edge, 'none')}, wanted {ours.get(edge, 'none')})"
        for edge in (*EDGES, "residual")
        if ours.get(edge) != theirs.get(edge)
    ]
    what, arguments = "genotype", []
    if differing:
        arguments.append(f'genotype="{saved.partition(f",{SCALE}:")[0]}"')
    else:
        what = "starting gain"
    if gains[0] != gains[1]:
        differing.append(f"gain divided out (saved {gains[0]:.6g}, wanted {gains[1]:.6g})")
        arguments.append(f"gain={gains[0]:.6g}" if gains[0] != 1 else 'gain="published"')
    return f"{what}{where}: {', '.join(differing)}; make the network with {', '.join(arguments)}"
