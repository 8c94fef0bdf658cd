"""The recipe of a training: the network of a search with a genotype, as the comparison at its end makes it."""

from sase_attn.comparison.networks import PLAIN, attended
from sase_attn.search.compare import with_imports
from sase_attn.search.config import SearchConfig
from sase_attn.search.trained import Training
from sase_attn.training.recipes import Recipe


def training_recipe(config: SearchConfig, recipe: Recipe, training: Training) -> Recipe:
    """The recipe with the network of a genotype, at unit gain, and with the start that the plain network has.

    Args:
        config: of the search; its model, `after` and imports count.
        recipe: of each training, but for network and seed.
        training: which.

    Raises:
        ValueError, UnknownNameError: see `Recipe`.
    """
    networks = attended(
        config.model,
        {"block": str(training.genotype)},
        after=list(config.after),
        base_args=config.model_kwargs,
        constants=False,
        from_weights=recipe.init_from is not None,
    )
    plain = networks.pop(PLAIN)
    (fields,) = networks.values()
    start = {"model": plain["model"], **plain["model_kwargs"]}
    return with_imports(recipe, config).override(**fields, start_as=start, seed=training.seed)
