"""What a stranger does first with an installed package, in an empty folder; `tests/wheel_check.sh` runs it.

python first_steps.py CHECKOUT        CHECKOUT: a folder that the package must not come from
"""

import json
import sys
from pathlib import Path

import timm
import torch
from PIL import Image

import sase_attn
from sase_attn.commands.main import main
from sase_attn.training.data.sets import embedded

CHECKOUT = Path(sys.argv[1])
assert CHECKOUT not in Path(sase_attn.__file__).parents, sase_attn.__file__

sys.path.append(str(CHECKOUT / "benchmarks"))
from pretrained import SAMPLES, read_sample  # noqa: E402

clothes, classes = (part[::5] for part in embedded().test)
tested = {"cifar10_jpeg": read_sample(SAMPLES / "cifar10_jpeg.npz"), "fashion_mnist_6k": (clothes, classes)}
for tag, (pixels, targets) in tested.items():
    names = timm.list_pretrained(f"*.{tag}")
    assert len(names) >= 3, names
    for name in names:
        model = timm.create_model(name, pretrained=True).eval()
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.inference_mode():
            answers = model((pixels.expand(-1, 3, -1, -1) / 255 - mean) / std).argmax(1)
        top1 = (answers == targets).double().mean()
        print(f"{name}: {top1:.1%} of {len(targets)} test images")
        assert top1 > 0.8, name

cells = json.loads((CHECKOUT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
exec("".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code")), {})

network = timm.create_model("resnet18", num_classes=3).eval()
before = network(torch.ones(1, 3, 64, 64))
assert len(sase_attn.attach(network, after="layer*.*.bn2", attn="sase", preserve_output=True)) == 8
torch.testing.assert_close(network(torch.ones(1, 3, 64, 64)), before)


def run(*words: str) -> None:
    """A command that ends well."""
    assert main(list(words)) == 0, words


run("list", "genotypes")
run("tile", "seresnet18", "--no-pretrained", "-o", "tiled")
Image.new("RGB", (40, 32), "orange").save("orange.png")
run("predict", "tiled", "orange.png")
run("predict", "sase_resnet20", "orange.png")
