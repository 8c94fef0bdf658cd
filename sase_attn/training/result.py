"""`TrainResult`, saved as `result.json`: the numbers of a finished run, and their provenance."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from sase_attn import quoting
from sase_attn.files import write_json
from sase_attn.records import read_record
from sase_attn.training.data import DataIdentity
from sase_attn.training.evaluate import Metrics
from sase_attn.training.provenance import provenance
from sase_attn.training.recipes import Recipe

NAME = "result.json"


@dataclass(frozen=True)
class TrainResult:
    """A finished run. Accuracies are in percent, on the test images.

    `top1`, `top5` and `loss` are those of the last epoch, which is what `model/` holds (the averaged weights where the
    recipe asks for them); `count` is the number of test images. `best_top1` is the best of all epochs, and `best_epoch`
    its epoch, from 0: it was chosen on the same images, so quote the last epoch's. `parameters` counts the network's,
    frozen ones included. `data` is the identity of the data.
    """

    output: str
    recipe: dict[str, Any]
    top1: float
    top5: float
    loss: float
    count: int
    parameters: int
    best_top1: float
    best_epoch: int
    seconds: float
    processes: int
    machine: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    data: DataIdentity = DataIdentity()

    @property
    def load_line(self) -> str:
        """Python that loads the trained network; only for networks that timm can rebuild."""
        folder = Path(self.output).resolve() / "model"
        source = quoting.python(f"local-dir:{folder}")
        return f"import sase_attn, timm; model = timm.create_model({source}, pretrained=True)"


def read_result(folder: Path) -> TrainResult | None:
    """The result of a run that has finished, otherwise None."""
    path = folder / NAME
    if not path.is_file():
        return None
    return replace(read_record(path, TrainResult), output=str(folder))


class OfData(Protocol):
    """The result of a training or a search, in a folder, on data."""

    @property
    def output(self) -> str:
        """The folder."""
        ...

    @property
    def data(self) -> DataIdentity:
        """The identity of the data."""
        ...


def check_comparable(first: OfData, second: OfData) -> None:
    """Raise ValueError, naming what differs, unless two results are of the same data."""
    if difference := second.data.difference(first.data):
        raise ValueError(f"{second.output} is of other data than {first.output}: {difference}; remove one of the two")


def write_result(folder: Path, recipe: Recipe, metrics: Metrics, *, device: torch.device, **values: Any) -> TrainResult:
    """Write `result.json`, and return it."""
    result = TrainResult(
        output=str(folder),
        recipe=asdict(recipe),
        **asdict(metrics),
        **values,
        **provenance(device),
    )
    write_json(folder / NAME, asdict(result))
    return result
