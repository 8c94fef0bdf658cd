"""One training step of a rank with five or two images of a batch of seven; started in the way of torchrun."""

import json

import torch
from torch import Tensor, nn

from sase_attn.training import Recipe
from sase_attn.training.distributed import ranks
from sase_attn.training.step import Trainer

SHARES = (slice(0, 5), slice(5, 7))
WEIGHTS = torch.tensor([0.2, 1.0, 3.0])


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(3)), torch.arange(7) % 3


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(4, 3)


def main() -> None:
    recipe = Recipe(batch_size=8, momentum=0.0, weight_decay=0.0, schedule="none", lr=1.0)
    with ranks("cpu") as group:
        for weights in (None, WEIGHTS):
            trainer = Trainer(recipe, linear(), group, 1, weights)
            loss, count, _ = trainer.step(*(tensor[SHARES[group.rank]] for tensor in batch()))
            print(json.dumps({"loss": loss, "count": count, "weight": trainer.model.weight.tolist()}))


if __name__ == "__main__":
    main()
