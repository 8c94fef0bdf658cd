"""Make the data that ship with the package, from Debian's `dataset-fashion-mnist` (apt-get install it first).

    python benchmarks/make_embedded_data.py [OUTPUT_FOLDER]

It writes `fashion_mnist.npz` (the first 600 training and 100 test images of each class, in file order, uint8) and
`fashion_mnist.LICENSE` (from the Debian package's copyright file) to `sase_attn/training/data` or OUTPUT_FOLDER.
The same package gives the same arrays; the same zlib gives the same file.
"""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = Path("/usr/share/datasets/fashion-mnist")
COPYRIGHT = Path("/usr/share/doc/dataset-fashion-mnist/copyright")
TARGET = Path(__file__).parent.parent / "sase_attn" / "training" / "data"
PER_CLASS = {"train": 600, "test": 100}
FILES = {"train": "train", "test": "t10k"}
HEADER = """Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist
fashion_mnist.npz beside this file holds a subset of it: the first 600 training and 100 test images of each class.

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

"""


def read(name: str, header: int) -> NDArray[np.uint8]:
    """The bytes of an IDX file after its header."""
    return np.frombuffer(gzip.decompress((SOURCE / name).read_bytes()), np.uint8, offset=header)


def first_of_each_class(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 28, 28) and labels (N,), in the order of the file."""
    labels = read(f"{FILES[split]}-labels-idx1-ubyte.gz", 8)
    images = read(f"{FILES[split]}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    keep = np.sort(np.concatenate([np.flatnonzero(labels == label)[: PER_CLASS[split]] for label in range(10)]))
    return images[keep], labels[keep]


def license_text() -> str:
    """The licence from Debian's copyright file, in which " ." stands for an empty line."""
    body = COPYRIGHT.read_text(encoding="utf-8").rpartition("License: Expat\n")[2]
    return HEADER + "".join(line[1:].replace(".\n", "\n", line == " .\n") for line in body.splitlines(keepends=True))


def main() -> None:
    """Write both files."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    arrays: dict[str, Any] = {}
    for split in PER_CLASS:
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = first_of_each_class(split)
    np.savez_compressed(target / "fashion_mnist.npz", **arrays)
    (target / "fashion_mnist.LICENSE").write_text(license_text(), encoding="utf-8")
    print(f"{target / 'fashion_mnist.npz'}: {(target / 'fashion_mnist.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
