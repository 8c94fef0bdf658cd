"""`search_by_shared_weights`: a search by a super-network, after a look for signal where the configuration wants one.

The look for signal tests, by trainings from scratch, whether genotypes differ in accuracy at all. Any number of workers
may take part in it. Then the one of them that holds the lock of the folder trains the super-network.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from torch import nn

from sase_attn.lock import InUseError, one_process
from sase_attn.search.begun import has_trainings, saved_config
from sase_attn.search.chosen import save_chosen
from sase_attn.search.config import MAY_CHANGE, SearchConfig
from sase_attn.search.finish import finish
from sase_attn.search.helpers import helpers
from sase_attn.search.look import forget_look, look_for_signal, look_plan, published_genotype
from sase_attn.search.methods import RandomSearch
from sase_attn.search.result import NAME, SearchResult
from sase_attn.search.shared_weights.checkpoint import SearchProgress, load_search
from sase_attn.search.shared_weights.halves import SearchData, open_halves
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.network import create_supernet
from sase_attn.search.shared_weights.single_path import SinglePathSearcher
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.space import SearchSpace
from sase_attn.search.study import begin_study
from sase_attn.search.trainings.run import LEASE
from sase_attn.search.verdict import load_signal
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.checkpoint import Checkpoint, check_same, check_same_data
from sase_attn.training.distributed import Ranks, ranks
from sase_attn.training.recipes import Recipe
from sase_attn.training.run_folder import check_new_folder, run_folder

Saved = Checkpoint[SearchConfig, SearchProgress]


class OnlyLookedError(InUseError):
    """This worker has done its part of the look for signal, and another one continues the search."""


def search_by_shared_weights(
    config: SearchConfig,
    output: str | Path,
    *,
    model: nn.Module | None = None,
    space: SearchSpace | None = None,
    data: SearchData | None = None,
    resume: bool = False,
    recipe: Recipe | None = None,
    storage: str | None = None,
    lease: float = LEASE,
    jobs: int = 1,
    device: str | None = None,
    extra_files: Mapping[str, str] = MappingProxyType({}),
    echo: Callable[[str], object] = print,
) -> SearchResult:
    """Train shared weights, choose a genotype by them, and write `genotype.json` and `result.json`.

    If the look for signal answers "nothing to find", no super-network is trained, and the genotype is a published one.

    Args:
        config: the configuration. Its `signal`, `signal_seeds` and `train_epochs` are those of the look.
        output: the folder of the search: a new one, or that of the same search to resume it or to join its look.
        model, space, data, resume, device: see `search`.
        recipe: the recipe of the trainings of the look; by default `embedded` on the data of the configuration.
        storage, lease: how the look records trainings, see `run_trainings`.
        jobs: workers of the look to start on this machine, including this one.
        extra_files: the texts of further files to write to the folder at the start, by file name.
        echo: called with each line of progress, on rank 0 only.

    Raises:
        OnlyLookedError: another worker of the look holds the folder, and continues. Otherwise as `search`.
    """
    folder, plan = Path(output), look_plan(config)
    with ranks(device) as group, ExitStack() as stack:
        if plan is None:
            stack.enter_context(run_folder(folder, group, "search", resume=resume))
        finished, saved = _before(config, folder, group, resume) if resume or plan else (None, None)
        if finished is not None:
            return finished
        if saved is not None and not resume:
            check_new_folder(folder, "search")  # a second process may join a look, but not a super-network
        group.wait()  # all ranks have read the folder before one writes to it
        echo = group.on_main(echo)
        with group.together():  # a failing rank must not leave the others waiting
            data = data or open_halves(config, group)
            if saved is not None:
                check_same_data(data.info.identity, saved)
        if model is None:
            info = data.info
            model = create_supernet(
                config, num_classes=len(info.classes), in_chans=info.channels, size=info.size, echo=echo
            )
        kind = SinglePathSearcher if config.method == "single-path" else Searcher
        searcher = kind(config, model, data, folder, group, echo, space)  # fails before the look, not after it
        if plan is None:
            forget_look(folder, group)
        elif saved is None or saved.settings.signal != config.signal or load_signal(folder) is None:
            has_folder = _lock_folder(folder, group, stack)
            nothing = look_first(
                config,
                folder,
                recipe=recipe,
                storage=storage,
                lease=lease,
                jobs=jobs,
                device=device,
                extra_files=extra_files,
                group=group,
                echo=echo,
            )
            if nothing is not None:
                return nothing
            if not has_folder and not _lock_folder(folder, group, stack):
                raise OnlyLookedError(f"the look for signal is done, and another worker goes on in {folder}")
            finished, saved = _before(config, folder, group, resume=False)  # another worker may have trained meanwhile
            if finished is not None:
                return finished
        else:
            stack.enter_context(run_folder(folder, group, "search", resume=True))
        searcher.run(saved, extra_files)
        result = finish(searcher, group)
        searcher.stop_if_asked()
        return result


def look_first(
    config: SearchConfig,
    folder: Path,
    *,
    recipe: Recipe | None = None,
    storage: str | None = None,
    lease: float = LEASE,
    jobs: int = 1,
    device: str | None = None,
    extra_files: Mapping[str, str] = MappingProxyType({}),
    group: Ranks,
    echo: Callable[[str], object] = print,
) -> SearchResult | None:
    """Look for signal; return the result if the search ends by it, and None if the search continues.

    Args:
        config: the configuration, with a `signal` above 0.
        folder: the folder of the search: a new one, or that of the same search.
        recipe, storage, lease, jobs, device, extra_files, echo: see `search_by_shared_weights`.
        group: the processes of this worker.

    Raises:
        ValueError, FileExistsError: as `begin`. Otherwise as `check_start`, `look_for_signal` and `run_trainings`.
    """
    plan, space, start = look_plan(config), config.search_space(), time.perf_counter()
    assert plan is not None
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
        looked, done = look_for_signal(plan, study.work, folder, epochs=epochs, group=group, echo=echo)
    if looked.answer != NOTHING:
        return None
    found = published_genotype(space) or RandomSearch(space, len(done)).choose(done)
    seconds = time.perf_counter() - start
    return save_chosen(config, folder, found, done, epochs=epochs, seconds=seconds, data=study.data, group=group)


def _before(config: SearchConfig, folder: Path, group: Ranks, resume: bool) -> tuple[SearchResult | None, Saved | None]:
    """The result in the folder, if the search has ended, and the super-network's checkpoint, if there is one.

    Raises FileNotFoundError if there is no search to resume, ValueError if the folder holds another search.
    """
    begun = saved_config(folder)
    has_checkpoint = group.share((folder / CHECKPOINT).is_file())
    saved = load_search(folder) if has_checkpoint or (resume and not has_trainings(folder)) else None
    before = begun if saved is None else saved.settings
    if before is None:
        return None, None
    check_same(config, before, MAY_CHANGE)
    if group.share((folder / NAME).is_file()):
        finished = SearchResult.load(folder)
        if set(config.differences(finished.settings)) <= {"workers", "log_every", "imports"}:
            return finished, saved
    return None, saved


def _lock_folder(folder: Path, group: Ranks, stack: ExitStack) -> bool:
    """Lock the folder for this worker until the stack closes; return whether no other worker had locked it."""
    taken = True
    with group.together():
        if group.is_main:
            try:
                stack.enter_context(one_process(folder))
            except InUseError:
                taken = False
    return group.share(taken)
