"""The cases of each study of published trainings, with label, recipe and number of seeds."""

from dataclasses import dataclass

from sase_attn.block import GATE_INITS
from sase_attn.training.recipes import Recipe

NETWORKS = {"plain": "resnet20_cifar", "SASE": "sase_resnet20"}


@dataclass(frozen=True)
class Case:
    """One line of a study's table: its label, its recipe except for the seed, and the number of seeds."""

    label: str
    recipe: Recipe
    seeds: int = 3


def _embedded(label: str, model: str, **changes: object) -> Case:
    return Case(label, Recipe.get("embedded").override(model=model, epochs=15, **changes))


def embedded() -> list[Case]:
    """The `embedded` recipe for 15 epochs at two learning rates: plain, and with the initial values of the gates."""
    cases = []
    for lr in (0.05, 0.1):
        cases.append(_embedded(f"plain, lr {lr}", "resnet20_cifar", lr=lr))
        for gates in GATE_INITS:
            label = f"SASE, gates {gates}, lr {lr}"
            cases.append(_embedded(label, "sase_resnet20", lr=lr, model_kwargs={"gate_init": gates}))
    return cases


def cifar10_jpeg(data: str, epochs: int = 5, seeds: int = 1) -> list[Case]:
    """CIFAR-10 from an image folder of JPEGs, by the `cifar` recipe with another length, clipping and warm-up."""
    recipe = Recipe.get("cifar").override(data=data, size=32, epochs=epochs, clip_grad=5.0, warmup_epochs=1)
    return [Case(label, recipe.override(model=model), seeds) for label, model in NETWORKS.items()]
