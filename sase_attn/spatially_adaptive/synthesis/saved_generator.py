"""Generators as safetensors files, whose header describes the network: `save_generator`, `load_generator`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sase_attn.errors import unknown_name
from sase_attn.spatially_adaptive.synthesis.file_record import file_record
from sase_attn.spatially_adaptive.synthesis.generator import SIZES, SKIPS, Generator
from sase_attn.weights import read_checkpoint, write_safetensors
from sase_attn.weights.state_dicts import check_state_dict

LAST, BEST = "generator.safetensors", "best.safetensors"
SNAPSHOTS = "snapshots"
_KEY = "sase_attn.generator"


@dataclass(frozen=True)
class GeneratorRecord:
    """The record of a generator in its file: the arguments of the network, its step, and its scores at that step."""

    size: int
    width: int
    latent: int
    skip: str
    style_norm: bool
    step: int
    scores: dict[str, Any] = field(default_factory=dict)

    def network(self) -> Generator:
        """A network with these arguments and initial weights. Raises ValueError for arguments that no generator has."""
        if self.skip not in SKIPS:
            raise unknown_name("skip", self.skip, SKIPS)
        if self.size not in SIZES or not 1 <= self.width <= 256 or not 1 <= self.latent <= 4096:
            raise ValueError(f"no generator has size {self.size}, width {self.width} and latent {self.latent}")
        return Generator(self.size, self.width, self.latent, self.skip, style_norm=self.style_norm, spectral_norm=False)


def save_generator(generator: Generator, path: Path, *, step: int, scores: dict[str, Any]) -> None:
    """Write the plain weights of a generator with its scores, atomically. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    record = {name: getattr(generator, name) for name in ("size", "width", "latent", "skip", "style_norm")}
    text = json.dumps({**record, "step": step, "scores": scores})
    write_safetensors(generator.plain().state_dict(), path, metadata={_KEY: text})


def load_generator(source: str | Path, weights: str = "best") -> Generator:
    """The averaged generator of a run, in eval mode; `sample(count)` makes images.

    Args:
        source: the folder of a run, or a file that one has written.
        weights: which weights of a folder: "best" by KID, or "last"; a run without scores has only the last.

    Raises:
        FileNotFoundError: nothing there. UnknownNameError: no such weights. ValueError: the file is damaged, or not of
            a generator.
    """
    path = generator_file(source, weights)
    record = read_record_of(path)
    generator = record.network()
    state = read_checkpoint(path)
    check_state_dict(state, generator, source=str(path))
    generator.load_state_dict(state)
    return generator.eval().requires_grad_(False)


def generator_file(source: str | Path, weights: str = "best") -> Path:
    """The file that `load_generator` reads. Raises as `load_generator` if there is none."""
    path = Path(source)
    if weights not in ("best", "last"):
        raise unknown_name("weights", weights, ("best", "last"))
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no such folder of a run or file of a generator: {path}")
        return path
    names = (BEST, LAST) if weights == "best" else (LAST,)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path} holds no {LAST}: wanted the folder of a run that has made its first sheet")
    return found


def read_record_of(path: Path) -> GeneratorRecord:
    """The record in a generator's file. Raises ValueError if the file is damaged, or holds something else."""
    otherwise = "is not of a generator: wanted a file that `sase-attn synthesize train` has written"
    return file_record(path, _KEY, GeneratorRecord, otherwise)
