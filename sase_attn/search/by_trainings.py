"""`search_by_trainings`: a search by trainings from scratch, first as a look for signal, then by a method.

The look for signal tests whether genotypes differ in accuracy at all. Each call is a worker: start as many as you like,
on one folder or one database. All of them end with the same result.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sase_attn.quoting import counted
from sase_attn.search.chosen import save_chosen
from sase_attn.search.config import SearchConfig
from sase_attn.search.helpers import helpers
from sase_attn.search.look import forget_look, look_for_signal, look_plan, published_genotype
from sase_attn.search.methods import METHODS, Method
from sase_attn.search.result import SearchResult
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.study import begin_study
from sase_attn.search.trainings.run import LEASE
from sase_attn.training.distributed import ranks
from sase_attn.training.recipes import Recipe


def search_by_trainings(
    config: SearchConfig,
    output: str | Path,
    *,
    recipe: Recipe | None = None,
    storage: str | None = None,
    lease: float = LEASE,
    jobs: int = 1,
    device: str | None = None,
    extra_files: Mapping[str, str] = MappingProxyType({}),
    echo: Callable[[str], object] = print,
) -> SearchResult:
    """Search by one of `METHODS`, and write `genotype.json` and `result.json`; called again, it continues.

    If the look for signal answers "nothing to find", the method does not run, and the genotype is a published one.

    Args:
        config: the configuration, of which `without_effect` names the fields that are not read.
        output: the folder of the search: a new one, or that of the same search.
        recipe: the recipe of the trainings; by default `embedded` on the data of the configuration.
        storage, lease, device: see `run_trainings`.
        jobs: workers to start on this machine, including this one.
        extra_files: the texts of further files to write to the folder at the start, by file name.
        echo: called with each line of progress, on rank 0 only.

    Raises:
        FileExistsError: the folder holds something else. ValueError: it holds another search, or one in another
            storage; more than one worker is to be started with a recipe; all trainings failed; or as `run_trainings`
            and `SignalPlan`. Otherwise as `run_trainings`.
    """
    if recipe is not None and jobs > 1:
        raise ValueError(f"jobs: wanted 1 with a recipe of your own, which other workers do not know, got {jobs}")
    folder, space, start = Path(output), config.search_space(), time.perf_counter()
    method: Method = METHODS[config.method](space, config.trainings, config.seed)
    plan = look_plan(config)
    with ranks(device) as group:
        echo = group.on_main(echo)
        study = begin_study(
            config,
            folder,
            recipe=recipe,
            storage=storage,
            lease=lease,
            device=device,
            extra_files=extra_files,
            group=group,
            echo=echo,
        )
        epochs = study.recipe.epochs
        with helpers(folder, jobs - 1, storage=storage, device=device, echo=echo):
            found = None
            if plan is None:
                forget_look(folder, group)
            else:
                looked, done = look_for_signal(plan, study.work, folder, epochs=epochs, group=group, echo=echo)
                if looked.answer == NOTHING:
                    found = published_genotype(space) or method.choose(done)
            if found is None:
                echo(f"{config.method}, up to {counted(method.trainings, 'training')} in all")
                done = study.work(method)
                found = method.choose(done)
        echo(f"{counted(len(done), 'training')} ended, {sum(row.failed for row in done)} of them without a number")
        seconds = time.perf_counter() - start
        return save_chosen(config, folder, found, done, epochs=epochs, seconds=seconds, data=study.data, group=group)
