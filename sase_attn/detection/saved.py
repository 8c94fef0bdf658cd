"""Detectors as safetensors files, whose header describes the network: `save_detector`, `load_detector`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network import create_detector
from sase_attn.errors import unknown_name
from sase_attn.files import parse_json
from sase_attn.fusion.fused import Fused
from sase_attn.records import record_from
from sase_attn.training import data_config
from sase_attn.training.checkpoint import Normalisation
from sase_attn.training.data.identity import DataIdentity
from sase_attn.weights import read_checkpoint, read_metadata, write_safetensors
from sase_attn.weights.gains import take_gains
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict

LAST, BEST = "model.safetensors", "best.safetensors"
_KEY = "sase_attn.detector"


@dataclass(frozen=True)
class DetectorRecord:
    """The record of a detector in its file.

    Args:
        config: the settings of the network and its training, as a JSON object.
        classes: `classes[k]` is the name of label k + 1.
        category_ids: `category_ids[k]` is its id in the annotation file.
        mean, std: mean and standard deviation by which the network normalises images.
        data: the identity of the training data.
    """

    config: dict[str, Any]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: DataIdentity = DataIdentity()


class LoadedDetector(NamedTuple):
    """A detector in eval mode, with its configuration, and its classes by label − 1 with their category ids."""

    model: FasterRCNN | MaskRCNN
    config: DetectionConfig
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]


def save_detector(
    model: FasterRCNN | MaskRCNN,
    path: str | Path,
    config: DetectionConfig,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    *,
    data: DataIdentity | None = None,
) -> None:
    """Write a detector, atomically; `load_detector` needs nothing else.

    Args:
        model: a model from `create_detector`.
        path: the safetensors file to write.
        config: the configuration that the model was built with.
        classes: `classes[k]` is the name of label k + 1.
        category_ids: ids of the classes in the annotation file; by default 1, 2, ….
        data: the identity of the training data.

    Raises:
        OSError: the file cannot be written.
        ValueError: the number of classes, or ids, is not that of the detector; or the detector is fused for inference.
    """
    if any(isinstance(module, Fused) for module in model.modules()):
        raise ValueError("the detector is fused for inference: call sase_attn.unfuse(model) before saving it")
    outputs = model.roi_heads.box_predictor.cls_score.out_features - 1
    ids = tuple(range(1, len(classes) + 1) if category_ids is None else category_ids)
    if not outputs == len(classes) == len(ids):
        raise ValueError(
            f"wanted a name and an id for each of {outputs} classes, got {len(classes)} names and {len(ids)} ids"
        )
    seen = normalisation_of(model)
    record = DetectorRecord(asdict(config), tuple(classes), ids, seen.mean, seen.std, data or DataIdentity())
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    # Other trainings that start from the backbone read the second entry.
    metadata = {_KEY: json.dumps(asdict(record)), data_config.KEY: json.dumps({"mean": record.mean, "std": record.std})}
    write_safetensors(weights, Path(path), metadata=metadata, model=model)


def load_detector(
    source: str | Path, device: str | torch.device | None = None, *, weights: str = "best"
) -> LoadedDetector:
    """The detector of a run's folder, or of a file that `save_detector` wrote, in eval mode.

    Its inputs are images as float (3, H, W) from 0 to 1. User modules that its training imported are not imported here,
    because a file may come from anybody: import the ones that you trust first.

    Args:
        source: the folder or the file.
        device: the device to put the detector on; by default the CPU.
        weights: which weights of a folder: the "best" by AP on the validation images, or those of the "last" epoch. The
            best were chosen on these images, so quote the last for results on them.

    Raises:
        FileNotFoundError: nothing there. UnknownNameError: no such weights, or no such backbone.
        ValueError: the file is damaged, or not of a detector.
    """
    path = detector_file(source, weights)
    record = read_detector_record(path)
    try:
        config = DetectionConfig.from_json(json.dumps(record.config))
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from None
    with torch.random.fork_rng(devices=[]):
        bare = config.override(init_from=None)
        model = create_detector(bare, len(record.classes), echo=lambda line: None)
    gains = read_record(path)
    take_gains(gains, model, source=str(path))
    state = read_checkpoint(path, model)
    check_state_dict(state, model, source=str(path), genotype=gains)
    model.load_state_dict(state)
    set_normalisation(model, Normalisation(record.mean, record.std))
    return LoadedDetector(model.to(device or "cpu").eval(), config, record.classes, record.category_ids)


def detector_file(source: str | Path, weights: str = "best") -> Path:
    """The file that `load_detector` reads. Raises as `load_detector` if there is none."""
    path = Path(source)
    if weights not in (files := {"best": BEST, "last": LAST}):
        raise unknown_name("weights", weights, files)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no such folder of a run or file of a detector: {path}")
        return path
    if not (found := path / files[weights]).is_file():
        raise FileNotFoundError(f"{path} holds no {found.name}: wanted the folder of a run that has ended an epoch")
    return found


def read_detector_record(path: Path) -> DetectorRecord:
    """The record in a detector's file. Raises ValueError if the file is damaged, or holds something else."""
    text = read_metadata(path).get(_KEY)
    if text is None:
        raise ValueError(f"{path} is not of a detector: wanted a file that `sase-attn detect train` has written")
    try:
        record = record_from(DetectorRecord, parse_json(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not 0 < len(record.classes) == len(record.category_ids) or not len(record.mean) == len(record.std) == 3:
        raise ValueError(f"{path}: its record of the detector is damaged")
    return record


def normalisation_of(model: FasterRCNN | MaskRCNN) -> Normalisation:
    """The mean and standard deviation by which a detector normalises its images."""
    transform = _transform(model)
    return Normalisation(tuple(transform.image_mean), tuple(transform.image_std))


def set_normalisation(model: FasterRCNN | MaskRCNN, wanted: Normalisation) -> None:
    """Set the mean and standard deviation by which a detector normalises its images."""
    transform = _transform(model)
    transform.image_mean, transform.image_std = list(wanted.mean), list(wanted.std)


def _transform(model: FasterRCNN | MaskRCNN) -> GeneralizedRCNNTransform:
    transform = model.transform
    assert isinstance(transform, GeneralizedRCNNTransform)
    return transform
