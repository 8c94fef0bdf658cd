"""Fine-tune a pretrained network with SASE blocks in it on your own images.

    python examples/finetune.py FOLDER                                            sase_resnet50, a warm start
    python examples/finetune.py FOLDER --base mobilenetv3_large_100.ra_in1k --after "blocks.*.*.bn3"
    python examples/finetune.py FOLDER --base resnet18 --after "layer*.*.bn2" --weights resnet18.safetensors

FOLDER holds train/ and val/ (or test/) with a folder of images for each class. The weights are timm's from the Hub,
those of a file, or with `--weights none` none. The blocks start so that they change nothing; their learning rate, and
the classifier's, is the full one, and earlier layers learn more slowly (`layer_decay`). Stop it with Ctrl-C and go on
with `--resume`. It ends with the accuracy, and with the class of an image from the network as it was saved.
"""

import argparse
from pathlib import Path

import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from sase_attn.training import Recipe, train
from sase_attn.training.data import read_image


def recipe_from(args: argparse.Namespace) -> Recipe:
    """What to train: a `sase_` model by name, or any network of timm with blocks after the layers named."""
    network = {"model": args.model}
    if args.base:
        network = {"model": "attached", "model_kwargs": {"base": args.base, "after": args.after}}
    return Recipe(
        **network,
        init_from=None if args.weights == "none" else args.weights,
        data=args.folder,
        size=args.size,
        augment="imagenet",
        workers=args.workers,
        batch_size=args.batch_size,
        epochs=args.epochs,
        lr=args.lr,
        layer_decay=0.8,
        weight_decay=1e-4,
        clip_grad=5.0,
        label_smoothing=0.1,
    )


def classify(folder: Path, image: Path) -> str:
    """The class that a saved network sees in an image file, with the preprocessing that its config records."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    with torch.inference_mode():
        scores = model(transform(read_image(image))[None]).softmax(1)
    return f"{model.pretrained_cfg['label_names'][int(scores.argmax())]} ({100 * scores.max():.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="sase_resnet50", help="a sase_ model")
    parser.add_argument("--base", help="or any model of timm …")
    parser.add_argument("--after", nargs="+", help="… with blocks after the layers that match these patterns")
    parser.add_argument("--weights", default="pretrained", help='"pretrained" (timm\'s), a file, or "none"')
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--output", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    if bool(args.base) != bool(args.after):
        parser.error("--base and --after go together")
    try:
        result = train(recipe_from(args), args.output, resume=args.resume)
    except (ValueError, LookupError, OSError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130)
    print(f"top-1 {result.top1:.2f} % of {result.count} test images; the network is in {args.output / 'model'}")
    image = next(path for path in sorted(Path(args.folder).glob("*/*/*")) if path.parent.parent.name != "train")
    print(f"{image}: {classify(args.output / 'model', image)}")
    print(result.load_line)


if __name__ == "__main__":
    main()
