"""The look for signal, the first stage of a search by any method: do genotypes differ in accuracy at all?"""

from collections.abc import Callable
from pathlib import Path

from sase_attn.genotype import Genotype
from sase_attn.search.compare import compared_genotypes
from sase_attn.search.config import SearchConfig
from sase_attn.search.signal import Signal, SignalPlan, signal
from sase_attn.search.signal.result import NAME
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Plan, Trained
from sase_attn.training.distributed import Ranks


def look_plan(config: SearchConfig) -> SignalPlan | None:
    """The trainings of a configuration's look for signal; None if there is to be none.

    One of their seeds is that of the configuration, so that a method by trainings uses these trainings again. Raises
    ValueError if the budget is too small for a plan.
    """
    if not config.signal:
        return None
    seeds = tuple(range(config.seed, config.seed + config.signal_seeds))
    try:
        return SignalPlan(config.search_space(), budget=config.signal, seeds=seeds, seed=config.seed)
    except ValueError as error:
        raise ValueError(f"signal: {error}; 0 is a search without a look for signal") from None


def look_for_signal(
    plan: SignalPlan,
    work: Callable[[Plan], list[Trained]],
    folder: Path,
    *,
    epochs: int,
    group: Ranks,
    echo: Callable[[str], object],
) -> tuple[Signal, list[Trained]]:
    """Run the trainings of the plan, test whether genotypes differ, and write the answer to the folder.

    Args:
        plan: the plan, from `look_plan`.
        work: runs the trainings that a plan wants, and returns all trainings that have ended.
        folder: the folder of the search, to which `signal.json` is written.
        epochs: the epochs of each training.
        group: the processes of this worker.
        echo: called with each line of the answer.

    Returns:
        The answer, and all trainings that have ended.

    Raises:
        ValueError: fewer than two genotypes are left. ImportError: scipy is not installed. Otherwise as `work`.
    """
    echo(f"is there anything to find? {plan.step} genotypes × {len(plan.seeds)} seeds, then more, "
         f"up to {plan.budget} trainings")  # fmt: skip
    done = work(plan)
    looked = signal(done, plan, epochs=epochs)
    with group.together():
        if group.is_main:
            looked.save(folder)
    for line in looked.lines():
        echo(f"  {line}")
    return looked, done


def forget_look(folder: Path, group: Ranks) -> None:
    """Remove the answer of an earlier call that looked for signal, for a call that does not."""
    with group.together():
        if group.is_main:
            (folder / NAME).unlink(missing_ok=True)


def published_genotype(space: SearchSpace) -> Genotype | None:
    """The first published genotype that a space holds, which a search keeps where there is nothing to find."""
    _, *found = compared_genotypes(space.random(0), space, random=0).values()
    return found[0] if found else None
