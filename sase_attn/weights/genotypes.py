"""What weights were trained with and do not say: recorded beside them, and compared before they are loaded.

Weights of two genotypes may have the same names and shapes, as those of "sase_paper" and "sase" have; and so have those
of one attention with two starting gains, which differ in the `scale` of its result. A record is text: the genotype of
all SASE blocks of a network as an inline string, with ",scale:…" behind it where that is not 1, and "scale:…" of other
attention; or where the attentions of a network differ a JSON object of such strings by their names. It stands in the
header of a safetensors file, in a checkpoint, and in `notes` of a published model's configuration. Weights without a
record are taken as they are.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sase_attn.attention import Attention
from sase_attn.attentions.constant import Constant
from sase_attn.block import SASEBlock
from sase_attn.genotype import EDGES

KEY = "genotype"
_NOTE = "sase-attn attention: "
_SCALE = "scale"


def record_of(model: nn.Module) -> dict[str, str]:
    """The record of a network under its key, for the metadata of a file; empty for one without attention of ours."""
    texts = _texts(model)
    if not texts:
        return {}
    uniform = len(set(texts.values())) == 1
    return {KEY: next(iter(texts.values())) if uniform else json.dumps(texts)}


def read_record(source: Path) -> str | None:
    """The record of a weights file or of the `model.safetensors` in a folder; None where there is none.

    A file that cannot be read has none either: whoever reads its tensors says what is wrong with it.
    """
    if source.is_dir():
        source = source / "model.safetensors"
    try:
        if source.suffix == ".safetensors":
            with safe_open(source, framework="pt") as file:
                found: object = (file.metadata() or {}).get(KEY)
        else:
            checkpoint = torch.load(source, map_location="meta", weights_only=True)
            found = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, str) else None


def check_record(record: str | None, model: nn.Module, *, source: str) -> None:
    """Raise ValueError, saying how, if weights with this record are of other attention than the network."""
    if record is None:
        return
    saved = _parsed(record, source)
    for name, wanted in _texts(model).items():
        text = saved if isinstance(saved, str) else saved.get(name, wanted)
        if text != wanted:
            where = "" if isinstance(saved, str) else f" in {name}"
            raise ValueError(f"{source} holds weights of another {_difference(text, wanted, where)}")


def noted(model: nn.Module) -> dict[str, Any]:
    """What a published configuration adds to its `pretrained_cfg` for a network's record."""
    others = [note for note in getattr(model, "pretrained_cfg", {}).get("notes") or () if not _is_record(note)]
    notes = others + [_NOTE + record for record in record_of(model).values()]
    return {"notes": notes} if notes else {}


def record_of_config(config: Mapping[str, Any]) -> str | None:
    """The record of the weights that a `pretrained_cfg` names: of their file where it is on disk, else in its notes."""
    file = config.get("file")
    found = read_record(Path(file)) if isinstance(file, str) else None
    notes = [note.removeprefix(_NOTE) for note in config.get("notes") or () if _is_record(note)]
    return notes[0] if found is None and notes and (file is None or Path(file).is_dir()) else found


def _is_record(note: object) -> bool:
    return isinstance(note, str) and note.startswith(_NOTE)


def _texts(model: nn.Module) -> dict[str, str]:
    """The record of each attention of a network, by its name."""
    return {name: _text(m) for name, m in model.named_modules() if isinstance(m, SASEBlock | Attention)}


def _text(attention: SASEBlock | Attention) -> str:
    fixed = attention.value if isinstance(attention, Constant) and attention.factor is None else 1.0
    scale = f"{_SCALE}:{attention.scale * fixed:.9g}"
    if not isinstance(attention, SASEBlock):
        return scale
    return str(attention.genotype) + (f",{scale}" if attention.scale != 1 else "")


def _parsed(record: str, source: str) -> str | dict[str, str]:
    if not record.startswith("{"):
        return record
    try:
        by_name = json.loads(record)
    except ValueError:
        by_name = None
    if not isinstance(by_name, dict) or not all(isinstance(text, str) for text in by_name.values()):
        raise ValueError(f"{source} has a damaged record of its genotype: wanted a genotype, got {record[:80]!r}")
    return by_name


def _difference(saved: str, wanted: str, where: str) -> str:
    """What differs between two records of an attention, where, and how to make the network, in words."""
    theirs, ours = (dict(part.partition(":")[::2] for part in text.split(",")) for text in (saved, wanted))
    gains = [1 / float(found.pop(_SCALE, "1")) for found in (theirs, ours)]
    differing = [
        f"{edge} (saved {theirs.get(edge, 'none')}, wanted {ours.get(edge, 'none')})"
        for edge in (*EDGES, "residual")
        if ours.get(edge) != theirs.get(edge)
    ]
    what, arguments = "genotype", []
    if differing:
        arguments.append(f'genotype="{saved.partition(f",{_SCALE}:")[0]}"')
    else:
        what = "starting gain"
    if gains[0] != gains[1]:
        differing.append(f"gain divided out (saved {gains[0]:.6g}, wanted {gains[1]:.6g})")
        arguments.append(f"gain={gains[0]:.6g}" if gains[0] != 1 else 'gain="published"')
    return f"{what}{where}: {', '.join(differing)}; make the network with {', '.join(arguments)}"
