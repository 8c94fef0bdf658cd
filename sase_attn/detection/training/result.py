"""`result.json` of a training of a detector: COCO's metrics at its end, and their provenance."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sase_attn.detection.evaluation.metrics import DetectionMetrics
from sase_attn.files import write_json
from sase_attn.quoting import python
from sase_attn.records import read_record
from sase_attn.training.data.identity import DataIdentity
from sase_attn.training.provenance import provenance

NAME = "result.json"


@dataclass(frozen=True)
class DetectionResult:
    """A finished training. Average precisions are from 0 to 1, on the validation images.

    `metrics` are those of the last epoch, whose weights `model.safetensors` holds. `best_ap` is the best of all epochs,
    of masks if there are any, and `best_epoch` its epoch, from 0; it was chosen on the same images, so quote the last
    epoch's. `parameters` counts all parameters, `trained_parameters` those that are not frozen. `category_ids` belong
    to the classes of `data`.
    """

    output: str
    config: dict[str, Any]
    metrics: DetectionMetrics
    best_ap: float
    best_epoch: int
    category_ids: tuple[int, ...]
    parameters: int
    trained_parameters: int
    seconds: float
    processes: int
    machine: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    data: DataIdentity = DataIdentity()

    @property
    def load_line(self) -> str:
        """Python code that loads the trained detector."""
        folder = python(str(Path(self.output).resolve()))
        return f"from sase_attn.detection import load_detector; model = load_detector({folder}).model"


def read_result(folder: Path) -> DetectionResult | None:
    """The result of a training that has finished, otherwise None."""
    path = folder / NAME
    return replace(read_record(path, DetectionResult), output=str(folder)) if path.is_file() else None


def write_result(folder: Path, device: torch.device, **values: Any) -> DetectionResult:
    """Write `result.json`, and return it."""
    result = DetectionResult(output=str(folder), **values, **provenance(device))
    write_json(folder / NAME, asdict(result))
    return result
