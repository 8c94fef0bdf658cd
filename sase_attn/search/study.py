"""`Study`: what the trainings of a search have in common: the recipe, the data and the function that runs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sase_attn.search.begun import begin
from sase_attn.search.compare import default_recipe
from sase_attn.search.config import SearchConfig
from sase_attn.search.trained import Plan, Trained, Training
from sase_attn.search.trainings.recipe import training_recipe
from sase_attn.search.trainings.run import run_trainings
from sase_attn.training.data import DataIdentity
from sase_attn.training.distributed import Ranks
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import check_start


@dataclass(frozen=True)
class Study:
    """What the trainings of a search have in common.

    Args:
        recipe: the recipe of each, except for the network and the seed.
        data: the identity of the data.
        work: runs the trainings that a plan wants, and returns all trainings that have ended.
    """

    recipe: Recipe
    data: DataIdentity
    work: Callable[[Plan], list[Trained]]


def begin_study(
    config: SearchConfig,
    folder: Path,
    *,
    recipe: Recipe | None,
    storage: str | None,
    lease: float,
    device: str | None,
    extra_files: Mapping[str, str],
    group: Ranks,
    echo: Callable[[str], object],
) -> Study:
    """Open the data, and begin or join the search in a folder.

    Args:
        config: the configuration of the search.
        folder: the folder of the search.
        recipe: the recipe of the trainings; by default `embedded` on the data of the configuration.
        storage, lease, device, echo: see `run_trainings`.
        extra_files: the texts of further files to write to the folder at the start, by file name.
        group: the processes of this worker.

    Raises:
        ValueError, FileExistsError: as `begin`. Otherwise as `check_start`.
    """
    recipe = recipe or default_recipe(config, config.train_epochs)
    first = Training(config.search_space().random(config.seed), config.seed)
    data = check_start([training_recipe(config, recipe, first)], device)
    with group.together():
        if group.is_main:
            begin(folder, config, storage, extra_files)
    work = partial(
        run_trainings,
        config=config,
        recipe=recipe,
        folder=folder,
        storage=storage,
        lease=lease,
        data=data,
        device=device,
        echo=echo,
    )
    return Study(recipe, data, work)
