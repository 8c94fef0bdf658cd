"""Where trained networks look: Grad-CAM of photos × networks, as one picture.

    pip install "sase-attn[saliency]"
    sase-attn train --data FOLDER --size 128 --model resnet18 --output runs/plain          # and others, of one recipe
    python examples/saliency.py --model plain=runs/plain --model sase=runs/sase --images FOLDER/val -o saliency.png

Each network is a run of `sase-attn train`, a folder that timm's `local-dir:` loads, or timm's name of a trained
network, as `sase_resnet20.fashion_mnist_6k`. The photos are image files, or `--count` of a folder at even distances,
so that nobody chose them. Where the folder of each is named as a class of the networks, the heat is that of the true
class for all networks; otherwise, or with `--prediction`, that of what each network predicts. WordNet ids (n02123045
…) are shown by ImageNet's names. Heat shows what moved a score, on a coarse map (4×4 positions for 128×128 pixels and
a network of stride 32); it is no proof of what a network understands.
"""

import argparse
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from torch import Tensor, nn

import sase_attn  # noqa: F401  registers the models
from sase_attn.plot import draw_saliency
from sase_attn.training.data import read_image

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def named_network(text: str) -> tuple[str, str]:
    """`NAME=NETWORK` as a pair."""
    name, separator, network = text.partition("=")
    if not (name and separator and network):
        raise argparse.ArgumentTypeError(f"expected NAME=NETWORK, got {text!r}")
    return name, network


def load(network: str) -> nn.Module:
    """The network of a run, of a folder that holds the network itself, or of timm's name."""
    if timm.is_model_pretrained(network) and not Path(network).is_dir():
        return timm.create_model(network, pretrained=True).eval()
    folder = Path(network)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"no network in {folder}: wanted a finished run of sase-attn train, or timm's name of a trained network"
        )
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def find_photos(places: list[Path], count: int) -> list[Path]:
    """The files named, and of each folder named `count` files at even distances in the order of their names."""
    found = []
    for place in places:
        if place.is_dir():
            files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            taken = min(count, len(files))
            found += [files[(2 * index + 1) * len(files) // (2 * taken)] for index in range(taken)]
        else:
            found.append(place)
    if not found:
        raise FileNotFoundError(f"no photos in {', '.join(map(str, places))}")
    return found


def read_photos(paths: list[Path], models: dict[str, nn.Module]) -> Tensor:
    """The photos (B, 3, H, W) in [0, 1], resized and cropped as the networks' own test images were."""
    wanted = [
        {key: resolve_model_data_config(model)[key] for key in ("input_size", "crop_pct", "crop_mode", "interpolation")}
        for model in models.values()
    ]
    if any(other != wanted[0] for other in wanted):
        raise ValueError(f"the networks were trained on other images each: {wanted}")
    transform = create_transform(**wanted[0], normalize=False)
    return torch.stack([transform(photo(path)) for path in paths]).float() / 255


def photo(path: Path) -> Image.Image:
    """The image of a file. Raises ValueError with the file's name."""
    try:
        return read_image(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def readable(names: list[str]) -> list[str]:
    """Class names, those of WordNet ids where all are ImageNet's."""
    info = ImageNetInfo()
    if not set(names) <= set(info.label_names()):
        return names
    return [info.label_name_to_description(name, detailed=False).partition(",")[0] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=named_network, action="append", required=True, metavar="NAME=NETWORK")
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="PLACE", help="files, or folders")
    parser.add_argument("--count", type=int, default=6, metavar="N", help="photos of a folder")
    parser.add_argument("--layer", help="a module's name (default: the last feature map)")
    parser.add_argument("--prediction", action="store_true", help="the heat of each network's own prediction")
    parser.add_argument("-o", "--output", type=Path, default=Path("saliency.png"), help="a .png, .svg or .pdf file")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count: wanted at least 1")
    try:
        models = {name: load(network) for name, network in args.model}
        if len(models) < len(args.model):
            raise ValueError("--model: each network needs a name of its own")
        classes = list(next(iter(models.values())).pretrained_cfg.get("label_names") or [])
        paths = find_photos(args.images, args.count)
        truth = [path.absolute().parent.name for path in paths]
        known = set(truth) <= set(classes) and not args.prediction
        targets = [classes.index(name) for name in truth] if known else None
        labels = readable(classes) if classes else None
        images = read_photos(paths, models)
        draw_saliency(models, images, args.output, layer=args.layer, targets=targets, labels=labels)
    except (ValueError, LookupError, OSError, ImportError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{len(paths)} photos × {', '.join(models)}: {args.output}")


if __name__ == "__main__":
    main()
