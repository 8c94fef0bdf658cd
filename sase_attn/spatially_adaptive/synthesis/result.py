"""`result.json` of a training for synthesis: the scores at its end, and their provenance."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sase_attn.files import write_json
from sase_attn.quoting import python
from sase_attn.records import read_record
from sase_attn.spatially_adaptive.synthesis.scores import Scores
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.provenance import provenance

NAME = "result.json"


@dataclass(frozen=True)
class SynthesisResult:
    """A finished training. `scores` are the averaged generator's at the last step, `best_kid` is the best of all."""

    output: str
    config: dict[str, Any]
    steps: int
    scores: Scores | None
    best_kid: float | None
    best_step: int
    parameters: int
    seconds: float
    machine: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    data: DataIdentity = DataIdentity()

    @property
    def load_lines(self) -> str:
        """Python code that makes images with the trained generator."""
        folder = python(Path(self.output).resolve())
        return (
            "from sase_attn.spatially_adaptive.synthesis import load_generator\n"
            f"images = load_generator({folder}).sample(16)"
        )


def read_result(folder: Path) -> SynthesisResult | None:
    """The result of a training that has finished, otherwise None."""
    path = folder / NAME
    return replace(read_record(path, SynthesisResult), output=str(folder)) if path.is_file() else None


def write_result(folder: Path, device: torch.device, **values: Any) -> SynthesisResult:
    """Write `result.json`, and return it."""
    result = SynthesisResult(
        output=str(folder),
        **values,
        **provenance(device),
    )
    write_json(folder / NAME, asdict(result))
    return result
