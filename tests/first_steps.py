"""What a stranger does first with an installed package, in an empty folder; `tests/wheel_check.sh` runs it.

python first_steps.py CHECKOUT        CHECKOUT: a folder that the package must not come from
"""

import sys
from pathlib import Path

import timm
import torch
from PIL import Image

import sase_attn
from sase_attn.commands.main import main
from sase_attn.training.data.open import DataConfig, open_data

assert Path(sys.argv[1]) not in Path(sase_attn.__file__).parents, sase_attn.__file__

model = timm.create_model("sase_resnet20").eval()
assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
images = open_data(DataConfig(), seed=0)[2]
assert images.train_count == 6000

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
