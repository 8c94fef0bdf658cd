"""`result.json` of a training on one image: the measures at its end, and their provenance."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sase_attn.files import write_json
from sase_attn.quoting import python
from sase_attn.records import read_record
from sase_attn.spatially_adaptive.synthesis.one_shot.measures import Measures
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.provenance import provenance

NAME = "result.json"


@dataclass(frozen=True)
class OneShotResult:
    """A finished training. `sizes` are (height, width) of the scales; `parameters` counts the generators of all."""

    output: str
    config: dict[str, Any]
    sizes: tuple[tuple[int, int], ...]
    measures: Measures
    parameters: int
    seconds: float
    machine: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    data: DataIdentity = DataIdentity()

    @property
    def load_lines(self) -> str:
        """Python code that makes images with the trained model."""
        folder = python(Path(self.output).resolve())
        return (
            "from sase_attn.spatially_adaptive.synthesis.one_shot import load_one_shot\n"
            f"images = load_one_shot({folder}).sample(count=4)"
        )


def read_result(folder: Path) -> OneShotResult | None:
    """The result of a training that has finished, otherwise None."""
    path = folder / NAME
    return replace(read_record(path, OneShotResult), output=str(folder)) if path.is_file() else None


def write_result(folder: Path, device: torch.device, **values: Any) -> OneShotResult:
    """Write `result.json`, and return it."""
    result = OneShotResult(
        output=str(folder),
        **values,
        **provenance(device),
    )
    write_json(folder / NAME, asdict(result))
    return result
