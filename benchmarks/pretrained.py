"""Make the weights that come with the package: train, pack and evaluate ResNet-20, plain, with SE and with SASE.

    python benchmarks/pretrained.py [--data FOLDER] [--only TEXT] [--runs FOLDER]

FOLDER of `--data` holds JPEG-recompressed CIFAR-10 as train/<class>/* and test/<class>/*; without it only the images
that come with the package are used. The three networks of a set have one seed, and the same initial values of common
tensors; attention starts at unit gain. A file holds parameters as float16, and statistics of norms unchanged. It is
loaded again and evaluated on every test image. The row in `results/pretrained.jsonl` records which predictions are
right, and the digest of the file. Stop it at any time, start it again, or start it twice: each process trains what has
no row and is not trained by another one. On one core the embedded images take an hour, and CIFAR-10 three hours, if the
core has instructions for bfloat16.
"""

import argparse
import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from PIL import Image
from rows import Row, add_row, has_row
from torch import Tensor, nn

from sase_attn.lock import Lock
from sase_attn.models.pretrained_files import FOLDER
from sase_attn.training import checkpoint
from sase_attn.training.data import DataConfig, DataInfo, open_data
from sase_attn.training.data.folder import scan
from sase_attn.training.data.loader import Loader
from sase_attn.training.data_config import as_metadata
from sase_attn.training.loading import load_network
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult
from sase_attn.training.run import train
from sase_attn.weights import StateDict, read_checkpoint, write_safetensors

STUDY, SEED, PLAIN = "pretrained", 0, "resnet20_cifar"
ARCHITECTURES = (PLAIN, "se_resnet20", "sase_resnet20")
SAMPLE = 500  # test images on which a test of the package evaluates the weights again
SAMPLES = Path(__file__).parent.parent / "tests" / "models"


@dataclass(frozen=True)
class Images:
    """A set of images: the recipe of its trainings, and whether it is a folder that the caller provides."""

    recipe: Recipe
    is_folder: bool


SETS = {
    "cifar10_jpeg": Images(
        Recipe.get("cifar").override(
            epochs=24, warmup_epochs=1, clip_grad=5.0, amp="bfloat16", channels_last=True, checkpoint_every=50
        ),
        is_folder=True,
    ),
    "fashion_mnist_6k": Images(
        Recipe.get("embedded").override(epochs=10, batch_size=64, checkpoint_every=40), is_folder=False
    ),
}


def recipe_of(architecture: str, tag: str, data: Path | None) -> Recipe:
    """The recipe of a network."""
    attended: dict[str, Any] = {"model_kwargs": {"gain": "unit"}, "start_as": {"model": PLAIN}}
    images = {"data": str(data)} if SETS[tag].is_folder else {}
    made = {} if architecture == PLAIN else attended
    return SETS[tag].recipe.override(model=architecture, seed=SEED, **made, **images)


def packed(weights: StateDict, model: nn.Module) -> StateDict:
    """Parameters as float16, buffers unchanged. Raises ValueError for a parameter that float16 cannot hold."""
    parameters = dict(model.named_parameters())
    half = {key: value.half() if key in parameters else value for key, value in weights.items()}
    if lost := [key for key, value in half.items() if not value.isfinite().all()]:
        raise ValueError(f"wanted parameters that float16 can hold, got {', '.join(lost)}")
    return half


@torch.inference_mode()
def right_answers(model: nn.Module, loader: Loader) -> Tensor:
    """Whether each test image is classified correctly, bool (N,)."""
    model.eval()
    return torch.cat([model(images).argmax(1) == targets for images, targets in loader.epoch(0)])


def as_hex(right: Tensor) -> str:
    """Encode booleans as hexadecimal text; the first one is the highest bit."""
    return np.packbits(right.numpy()).tobytes().hex()


def from_hex(text: str, count: int) -> Tensor:
    """Decode the booleans that `as_hex` wrote."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count)).bool()


def write_sample(folder: Path, path: Path) -> None:
    """Write the unchanged image files of every n-th test image, and their classes."""
    split = scan(folder).test
    step = len(split.paths) // SAMPLE
    files = [np.frombuffer(Path(file).read_bytes(), np.uint8) for file in split.paths[::step]]
    targets = split.targets[::step].numpy().astype(np.uint8)
    np.savez(path, content=np.concatenate(files), lengths=[len(file) for file in files], targets=targets)


def read_sample(path: Path) -> tuple[Tensor, Tensor]:
    """Read images uint8 (N, 3, H, W) and classes int64 (N,) that `write_sample` wrote."""
    with np.load(path) as arrays:
        files = np.split(arrays["content"], np.cumsum(arrays["lengths"])[:-1])
        targets = torch.from_numpy(arrays["targets"]).long()
    pixels = [np.asarray(Image.open(io.BytesIO(file.tobytes())).convert("RGB")) for file in files]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), targets


def write_file(result: TrainResult, tag: str, path: Path, info: DataInfo) -> None:
    """Pack the weights of a training into a file."""
    recipe = Recipe(**result.recipe)
    model = create_network(recipe, num_classes=len(info.classes), in_chans=info.channels)
    weights = read_checkpoint(Path(result.output) / "model" / "model.safetensors")
    metadata = {
        "recipe": (recipe.override(data=tag) if SETS[tag].is_folder else recipe).to_json(),
        "data": json.dumps(asdict(info.identity)),
        **as_metadata(info),
    }
    path.parent.mkdir(exist_ok=True)
    write_safetensors(packed(weights, model), path, metadata=metadata, model=model)


def row_of(architecture: str, tag: str, data: Path | None, runs: Path) -> Row:
    """Train a network, unless done, write its file, and return the row."""
    name = f"{architecture}.{tag}"
    recipe, folder = recipe_of(architecture, tag, data), runs / name
    result = train(recipe, folder, resume=(folder / checkpoint.NAME).exists(), device="cpu")
    _, test, info = open_data(DataConfig.of(recipe), seed=recipe.seed)
    path = FOLDER / f"{name}.safetensors"
    write_file(result, tag, path, info)
    if SETS[tag].is_folder and data is not None:
        write_sample(data, SAMPLES / f"{tag}.npz")
    model = load_network(str(path), recipe, classes=info.classes, in_chans=info.channels).model
    right = right_answers(model, test)
    return {
        "label": name,
        "seed": SEED,
        "architecture": architecture,
        "tag": tag,
        "top1": 100 * right.float().mean().item(),
        "float32_top1": result.top1,
        "count": len(right),
        "right": as_hex(right),
        "parameters": result.parameters,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "train_count": info.train_count,
        "seconds": result.seconds,
        "recipe": {**result.recipe, "data": tag},
        "machine": result.machine,
        "versions": result.versions,
        "commit": result.commit,
    }


def main() -> None:
    """Train and pack the networks that have no row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="JPEG-recompressed CIFAR-10")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/pretrained"), metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows.RESULTS.mkdir(exist_ok=True)
    names = [(architecture, tag) for tag in SETS for architecture in ARCHITECTURES]
    for architecture, tag in names:
        name = f"{architecture}.{tag}"
        if args.only not in name or (SETS[tag].is_folder and args.data is None) or has_row(STUDY, name, SEED):
            continue
        lock = Lock(rows.RESULTS / f".{STUDY}_{name}.lock")
        if not lock.acquire(wait=False):
            continue
        try:
            if not has_row(STUDY, name, SEED):
                row = row_of(architecture, tag, args.data, args.runs)
                add_row(STUDY, row)
                print(f"{name}: top-1 {row['top1']:.2f} %, {row['bytes']:,} bytes", flush=True)
        finally:
            lock.release()


if __name__ == "__main__":
    main()
