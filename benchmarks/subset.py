"""Make a subset of an image folder by links: the first images of each class, sorted by name.

python benchmarks/subset.py FOLDER OUT --train 1000 --test 500
"""

import argparse
from pathlib import Path

from sase_attn.training.data.folder import scan


def subset(source: Path, target: Path, counts: tuple[int, int]) -> None:
    """Make `target` with links to `counts` training and test images of each class. Raises FileExistsError."""
    found = scan(source)
    target.mkdir(parents=True)
    for files, count in zip((found.train, found.test), counts, strict=True):
        taken: dict[int, int] = {}
        for path, label in zip(files.paths, files.targets.tolist(), strict=True):
            taken[label] = taken.get(label, 0) + 1
            if taken[label] <= count:
                link = target / path.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())


def main() -> None:
    """Make the subset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--train", type=int, required=True, metavar="N", help="images of each class")
    parser.add_argument("--test", type=int, required=True, metavar="N", help="images of each class")
    args = parser.parse_args()
    subset(args.source, args.target, (args.train, args.test))


if __name__ == "__main__":
    main()
