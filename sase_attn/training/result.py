"""What a finished run leaves: `model/`, which timm loads, and `result.json` with the numbers and their regime."""

import copy
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from sase_attn import __version__, share
from sase_attn.files import write_json
from sase_attn.records import read_record
from sase_attn.training.data import DataInfo
from sase_attn.training.evaluate import Metrics
from sase_attn.training.recipes import Recipe
from sase_attn.weights import write_safetensors

NAME = "result.json"


@dataclass(frozen=True)
class TrainResult:
    """A finished run. Accuracies are in percent, on the test images.

    `top1`, `top5`, `loss` and `count` are those of the last epoch, which is what `model/` holds (the averaged weights
    where the recipe asks for them). `best_top1` is the best of all epochs: it was chosen on the same images, so quote
    the last epoch's.
    """

    output: str
    recipe: dict[str, Any]
    top1: float
    top5: float
    loss: float
    count: int
    best_top1: float
    best_epoch: int
    seconds: float
    processes: int
    machine: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    @property
    def load_line(self) -> str:
        """Python that loads the trained network; only for networks that timm can rebuild."""
        folder = Path(self.output).resolve() / "model"
        return f'import sase_attn, timm; model = timm.create_model("local-dir:{folder}", pretrained=True)'


def read_result(folder: Path) -> TrainResult | None:
    """The result of a run that has finished, else None."""
    path = folder / NAME
    if not path.is_file():
        return None
    return replace(read_record(path, TrainResult), output=str(folder))


def write_result(folder: Path, recipe: Recipe, metrics: Metrics, *, device: torch.device, **values: Any) -> TrainResult:
    """Write `result.json`, and return it."""
    result = TrainResult(
        output=str(folder),
        recipe=asdict(recipe),
        **asdict(metrics),
        **values,
        machine=machine(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        versions={
            "sase_attn": __version__,
            "timm": timm.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        commit=commit(),
    )
    write_json(folder / NAME, asdict(result))
    return result


def save_weights(model: nn.Module, path: Path, recipe: Recipe) -> None:
    """Write the weights as safetensors, with the recipe in the file's metadata."""
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    write_safetensors(weights, path, metadata={"recipe": recipe.to_json()})


def save_model(model: nn.Module, folder: Path, recipe: Recipe, info: DataInfo, metrics: Metrics) -> str | None:
    """Write `model/`, whose config knows the data's size, normalisation and classes.

    Returns:
        None, or why timm cannot rebuild this network; `model.safetensors` in the run's folder then holds the weights.
    """
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)  # of a run that was killed here
    model = copy.deepcopy(model).cpu().eval()
    try:
        if not isinstance(getattr(model, "pretrained_cfg", None), dict):
            raise share.HubError(f"{type(model).__name__} was not made by timm.create_model")
        model.pretrained_cfg = {  # type: ignore[assignment]
            **model.pretrained_cfg,  # type: ignore[dict-item]
            "input_size": (info.channels, *info.size),
            "mean": info.mean,
            "std": info.std,
            "crop_pct": info.crop_pct,
            "interpolation": "bilinear",
            "test_input_size": None,  # of the weights that it started from
            "test_crop_pct": None,
            "num_classes": len(info.classes),
            "label_names": list(info.classes),
        }
        share.save(
            model, target, metrics={f"{info.name} top-1 (%)": metrics.top1, f"{info.name} top-5 (%)": metrics.top5}
        )
    except share.HubError as error:
        save_weights(model, folder / "model.safetensors", recipe)
        return str(error)
    return None


def machine() -> str:
    """The processor, its cores, the threads in use, and the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"


def commit() -> str | None:
    """The commit of this package's source, with "-dirty" where files differ; None where git does not know it."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], ["describe", "--always", "--dirty", "--abbrev=40"]):
            done = subprocess.run(
                ["git", *command, *(["--exclude=*"] if command[0] == "describe" else [])],
                cwd=here.parent,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
