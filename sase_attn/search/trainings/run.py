"""`run_trainings`: run the trainings that a plan wants until it wants no more, together with other workers.

Start it as often as you like: each process is a worker. On one machine, or on machines that share the folder, the
default storage is a journal file there. Machines that share no folder need a database. A worker that is killed loses
nothing: another one resumes its training, from the last checkpoint if both share the folder.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sase_attn.search.config import SearchConfig
from sase_attn.search.trained import Plan, Trained, Training
from sase_attn.search.trainings.desk import Claim, Desk
from sase_attn.search.trainings.ledger import Ledger
from sase_attn.search.trainings.recipe import training_recipe
from sase_attn.search.trainings.storage import Storage
from sase_attn.search.trainings.worker import Worker
from sase_attn.training import checkpoint
from sase_attn.training.data import DataIdentity
from sase_attn.training.distributed import ranks
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult
from sase_attn.training.run import check_start, train

LEASE = 60.0


def run_trainings(
    plan: Plan,
    config: SearchConfig,
    recipe: Recipe,
    folder: str | Path,
    *,
    storage: str | None = None,
    lease: float = LEASE,
    data: DataIdentity | None = None,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> list[Trained]:
    """Run trainings until the plan wants no more; return all that have ended, over all workers.

    A training is the same as in a comparison: the block starts at unit gain, the other weights as in the plain network.
    It is a run folder in `trainings/`. A training that diverges or fails is returned too, see `Trained`. If started by
    `torchrun`, the processes are one worker, and share each training.

    Args:
        plan: decides which trainings are wanted. It is asked again after each training.
        config: the configuration, of which the model, `after`, the space and imports are used.
        recipe: the recipe of each training, except for the network and the seed.
        folder: the folder of the search, whose name is that of the study in the storage.
        storage: the URL of a database, as `postgresql://user@host/database`; by default `journal.log` in the folder.
        lease: seconds without a heartbeat after which others take over the training of a worker.
        data: the identity of the data, if `check_start` has returned it already.
        device: the device, as for `train`.
        echo: called with a line for each training that this worker has ended.

    Returns:
        All trainings that have ended, in the order in which they were first claimed.

    Raises:
        ImportError: optuna, or the driver of the database, is not installed.
        ValueError: no such storage; the folder's search is damaged, has another space or other data, or trained by
            another recipe.
        OSError: the disk, the data or the storage (`StorageError`) failed. The same call continues.
        Exception: an error of every training, found before the first one: see `open_data` and `create_network`; or the
            error of three trainings in a row that failed with the same message.
    """
    folder, space = Path(folder), config.search_space()
    one = training_recipe(config, recipe, Training(space.random(0), 0))
    data = data or check_start([one], device)
    with ranks(device) as group, ExitStack() as stack:
        desk: Desk | None = None
        with group.together():
            if group.is_main:
                opened = None if storage is None else Storage(folder, storage)  # else nothing is left behind
                folder.mkdir(parents=True, exist_ok=True)
                ledger = Ledger(folder, opened or Storage(folder), space)
                ledger.check_same(data, one)
                desk = Desk(plan, ledger, stack.enter_context(Worker(ledger, folder, lease)), folder, echo)
        while True:
            turn: list[Trained] | Claim | None = None
            with group.together():
                turn = None if desk is None else desk.next()
            turn = group.share(turn)
            if isinstance(turn, list):
                return turn
            if turn is not None:
                with group.together(), ExitStack() as held:
                    if desk is not None:
                        held.enter_context(desk.at(turn))
                    resume = group.share((turn.folder / checkpoint.NAME).exists())
                    made = training_recipe(config, recipe, turn.training)
                    # With several ranks, one that stopped early would leave the others waiting.
                    check = None if desk is None or group.world_size > 1 else partial(desk.check_lease, turn)
                    ended = _train(made, turn.folder, resume, device, check, alone=group.world_size == 1)
                    if desk is not None:
                        desk.record(turn, ended)


def _train(
    recipe: Recipe, folder: Path, resume: bool, device: str | None, check: Callable[[], object] | None, *, alone: bool
) -> TrainResult | Exception:
    """The result of a training, or why it has none.

    Raises OSError, which is not the training's fault, and with several ranks any error that not all of them raise.
    """
    try:
        return train(recipe, folder, resume=resume, device=device, echo=lambda line: check() if check else None)
    except OSError:
        raise
    except Exception as error:
        if not alone and not isinstance(error, FloatingPointError):
            raise
        return error
