"""`training_recipe`: the recipe of one training from scratch, with the same network as in the later comparison."""

from sase_attn.comparison.networks import PLAIN, attended
from sase_attn.search.compare import with_imports
from sase_attn.search.config import SearchConfig
from sase_attn.search.trained import Training
from sase_attn.training.recipes import Recipe


def training_recipe(config: SearchConfig, recipe: Recipe, training: Training) -> Recipe:
    """The recipe with the network of a genotype, at unit gain, and with the initial weights of the plain network.

    Args:
        config: the configuration of the search, of which the model, `after` and imports are used.
        recipe: the recipe of each training, except for the network and the seed.
        training: the training.

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
