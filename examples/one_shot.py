"""Learn one photo, and make others like it: SinGAN's design with the spatially-adaptive skip (arXiv 2112.14804).

    pip install "sase-attn[plot]"
    python examples/one_shot.py --output runs/one-shot                 # a photo that matplotlib ships
    python examples/one_shot.py --image PHOTO --output runs/mine       # or one of yours

Two minutes on two cores, for 64 pixels, three scales and 150 iterations. Stop it at any time, and start it again to
go on. It writes `sheet.png` (the photo, its reconstruction, samples, wide samples), `wide.png`, and
`harmonised.png`: a red square that was pasted into the photo, in the photo's own manner. Larger pictures want more:
`--size 250 --scales 0 --iterations 2000` is the paper's setting, and takes hours.
"""

import argparse
from pathlib import Path

import torch

from sase_attn.spatially_adaptive.synthesis import save_png
from sase_attn.spatially_adaptive.synthesis.one_shot import OneShotConfig, load_one_shot, train_one_shot


def shipped_photo() -> Path:
    """The portrait of Grace Hopper that comes with matplotlib."""
    try:
        from matplotlib.cbook import get_sample_data
    except ImportError:
        raise SystemExit('no photo: give one by --image, or pip install "sase-attn[plot]"') from None
    return Path(get_sample_data("grace_hopper.jpg", asfileobj=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, metavar="PHOTO", help="default: one that matplotlib ships")
    parser.add_argument("--output", type=Path, default=Path("runs/one-shot"), metavar="FOLDER")
    parser.add_argument("--size", type=int, default=64, help="longest side (default: %(default)s)")
    parser.add_argument("--scales", type=int, default=3, help="default: %(default)s; 0 for as many as the size wants")
    parser.add_argument("--smallest", type=int, default=25, help="shorter side of the first (default: %(default)s)")
    parser.add_argument("--width", type=int, default=32, help="channels (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=150, help="of each scale (default: %(default)s)")
    args = parser.parse_args()
    try:
        config = OneShotConfig(
            size=args.size,
            scales=args.scales or None,
            smallest=args.smallest,
            width=args.width,
            iterations=args.iterations,
            checkpoint_every=25,
        )
        resume = (args.output / "checkpoint.pt").is_file()
        result = train_one_shot(args.image or shipped_photo(), args.output, config, resume=resume)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(result.measures)

    model = load_one_shot(args.output)
    height, width = model.sizes[-1]
    save_png(model.sample(height, round(1.8 * width))[0], args.output / "wide.png")

    pasted, mask = model.image.clone(), torch.zeros_like(model.image)
    square = slice(height // 4, height // 2), slice(width // 4, width // 2)
    pasted[:, *square] = torch.tensor([200, 40, 40], dtype=torch.uint8)[:, None, None]
    mask[:, *square] = 255
    save_png(model.harmonise(pasted, mask), args.output / "harmonised.png")
    print(f"look at sheet.png, wide.png and harmonised.png in {args.output}")
    print(result.load_lines)


if __name__ == "__main__":
    main()
