"""`search_by_trainings`: a search by trainings from scratch. First a look for signal, then a method.

Each call is a worker: start as many as you like, on one folder or one database. All of them end with the same result.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sase_attn.files import read_json, write_atomically, write_json
from sase_attn.genotype import Genotype
from sase_attn.lock import Lock, held
from sase_attn.records import read_record
from sase_attn.search.compare import compared_genotypes, default_recipe, load_comparison
from sase_attn.search.config import SearchConfig
from sase_attn.search.helpers import helpers
from sase_attn.search.methods import METHODS, Method
from sase_attn.search.result import NAME as RESULT_NAME
from sase_attn.search.result import SearchResult, TrainingRow
from sase_attn.search.signal import SignalPlan
from sase_attn.search.signal import signal as read_signal
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.signal.result import NAME as SIGNAL_NAME
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Plan, Trained, Training
from sase_attn.search.trainings.recipe import training_recipe
from sase_attn.search.trainings.run import LEASE, run_trainings
from sase_attn.search.trainings.storage import shown
from sase_attn.search.verdict import settled
from sase_attn.training.checkpoint import check_same
from sase_attn.training.distributed import Ranks, ranks
from sase_attn.training.provenance import device_name
from sase_attn.training.recipes import Recipe
from sase_attn.training.run import check_start
from sase_attn.training.run_folder import check_new_folder

CONFIG, STORAGE = "config.json", "storage.json"
MAY_CHANGE = ("data", "workers", "log_every", "imports", "trainings", "signal")
"""Fields in which a search that goes on may differ: more trainings go on with those that are done."""


def search_by_trainings(
    config: SearchConfig,
    output: str | Path,
    *,
    recipe: Recipe | None = None,
    storage: str | None = None,
    lease: float = LEASE,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> SearchResult:
    """Search by one of `METHODS`, and write `genotype.json` and `result.json`; called again, it goes on.

    If the look for signal answers "nothing to find", the method does not run, and the genotype is a published one.

    Args:
        config: its `method`, `trainings`, `signal`, `signal_seeds` and `train_epochs`, and what makes the networks.
        output: the folder of the search: a new one, or that of the same search.
        recipe: of each training; by default the recipe `embedded` on the data of the configuration.
        storage, lease, device: see `run_trainings`.
        jobs: workers to start here, this one among them.
        echo: gets a line for each thing that people may want to read; on rank 0 only.

    Raises:
        FileExistsError: the folder holds something else. ValueError: it holds another search, or one in another
            storage; more than one worker is to be started with a recipe; all trainings failed; or as `run_trainings`
            and `SignalPlan`. Else as `run_trainings`.
    """
    if recipe is not None and jobs > 1:
        raise ValueError(f"jobs: wanted 1 with a recipe of your own, which other workers do not know, got {jobs}")
    folder, space, start = Path(output), config.search_space(), time.perf_counter()
    recipe = recipe or default_recipe(config, config.train_epochs)
    method: Method = METHODS[config.method](space, config.trainings, config.seed)
    plan = _look(config, space) if config.signal else None
    data = check_start([training_recipe(config, recipe, Training(space.random(config.seed), config.seed))], device)
    with ranks(device) as group:
        echo = group.on_main(echo)
        with group.together():
            if group.is_main:
                _enter(folder, config, storage)
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
        with helpers(folder, jobs - 1, storage=storage, device=device, echo=echo):
            found, done = _find(config.method, method, plan, work, recipe, folder, group, echo)
        echo(f"{len(done)} trainings ended, {sum(row.failed for row in done)} of them without a number")
        result = SearchResult(
            output=str(folder),
            config=json.loads(config.to_json()),
            genotype=str(found),
            argmax=str(found),
            select=config.method,
            columns={edge: list(names) for edge, names in space.ops.items()},
            genotype_top1=None,
            epochs=recipe.epochs,
            stopped_epoch=None,
            seconds=round(time.perf_counter() - start, 2),
            processes=group.world_size,
            device=device_name(group.device),
            data=data,
            trained=[TrainingRow.of(row) for row in done],
        )
        with group.together():
            if group.is_main:
                before = SearchResult.load(folder) if (folder / RESULT_NAME).is_file() else None
                if before is not None and before.trained == result.trained and before.genotype == result.genotype:
                    result = replace(before, output=str(folder), config=result.config)  # nothing was trained
                result = settled(result, load_comparison(folder))
                result.save()
        return group.share(result)


@dataclass(frozen=True)
class _Place:
    """Where the trainings of a search are written down: the URL of a database without its password, or a file."""

    storage: str | None


def _look(config: SearchConfig, space: SearchSpace) -> SignalPlan:
    """The look for signal. The method's first seed is among its own, so that its trainings are used again."""
    seeds = tuple(range(config.seed, config.seed + config.signal_seeds))
    try:
        return SignalPlan(space, budget=config.signal, seeds=seeds, seed=config.seed)
    except ValueError as error:
        raise ValueError(f"signal: {error}; 0 is a search without a look for signal") from None


def _find(
    name: str,
    method: Method,
    plan: SignalPlan | None,
    work: Callable[[Plan], list[Trained]],
    recipe: Recipe,
    folder: Path,
    group: Ranks,
    echo: Callable[[str], object],
) -> tuple[Genotype, list[Trained]]:
    """The genotype, and the trainings that it was chosen by."""
    if plan is not None:
        count = f"{plan.step} genotypes × {len(plan.seeds)} seeds"
        echo(f"is there anything to find? {count}, then more, up to {plan.budget} trainings")
        done = work(plan)
        looked = read_signal(done, plan, epochs=recipe.epochs)
        with group.together():
            if group.is_main:
                looked.save(folder)
        for line in looked.lines():
            echo(f"  {line}")
        if looked.answer == NOTHING:
            return _published(method.space) or method.choose(done), done
    else:
        with group.together():
            if group.is_main:
                (folder / SIGNAL_NAME).unlink(missing_ok=True)  # of an earlier call that looked for signal
    echo(f"{name}, up to {method.trainings} trainings in all")
    done = work(method)
    return method.choose(done), done


def _published(space: SearchSpace) -> Genotype | None:
    """The first published genotype that a space holds."""
    _, *found = compared_genotypes(space.random(0), space, random=0).values()
    return found[0] if found else None


def saved_config(folder: str | Path) -> SearchConfig | None:
    """The configuration of the search in a folder, if there is one. Raises ValueError, naming the file, if damaged."""
    path = Path(folder) / CONFIG
    return read_json(path, lambda values: SearchConfig.from_json(json.dumps(values))) if path.is_file() else None


def _enter(folder: Path, config: SearchConfig, storage: str | None) -> None:
    """Write the configuration to a new folder, or check that of a begun one. Raises ValueError, FileExistsError."""
    now = None if storage is None else shown(storage)
    if saved_config(folder) is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(Lock(folder.parent / f".{folder.name}.start.lock")):  # workers may start together
            if saved_config(folder) is None:
                check_new_folder(folder, "search")
                folder.mkdir(exist_ok=True)
                write_json(folder / STORAGE, asdict(_Place(now)))
                write_atomically(folder / CONFIG, config.to_json() + "\n")
    saved = saved_config(folder)
    assert saved is not None
    check_same(config, saved, MAY_CHANGE)
    before = read_record(folder / STORAGE, _Place).storage
    if before != now:
        wanted = f"--storage {before}" if before else "no --storage"
        raise ValueError(f"the search in {folder} was started with another storage: wanted {wanted}, got {now}")
    if saved != config:
        write_atomically(folder / CONFIG, config.to_json() + "\n")
