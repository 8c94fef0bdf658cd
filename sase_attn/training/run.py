"""`train`: one run from a recipe to a folder, new or resumed."""

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from sase_attn.imports import import_modules
from sase_attn.training.checkpoint import check_same, check_same_data, load_run
from sase_attn.training.data import DataConfig, DataIdentity, open_data
from sase_attn.training.distributed import Ranks, ranks
from sase_attn.training.loop import Data, Loop
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult, read_result
from sase_attn.training.run_folder import run_folder


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    model: nn.Module | None = None,
    data: Data | None = None,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> TrainResult:
    """Train the network of a recipe on its data, and write everything to a folder.

    The folder gets `recipe.json`, `log.jsonl`, `checkpoint.pt` (replaced after every epoch, and every
    `checkpoint_every` steps), `best.safetensors` (the best epoch by test accuracy, of equals the last), and at the end
    `model/`, which `timm.create_model("local-dir:…", pretrained=True)` loads, and `result.json`. Started by `torchrun`,
    it is one process of many.

    Args:
        recipe: the recipe.
        output: a folder that does not exist yet, or is empty.
        resume: continue from the checkpoint in `output`. If the run has finished, its result is returned.
        model: train this network instead of the recipe's, with its own initial weights.
        data: train loader, test loader and their description, instead of the recipe's.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        echo: called with each line of progress, on rank 0 only.

    Returns:
        The result: accuracy on the test images, and its provenance.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process). FileNotFoundError: nothing to resume.
        ValueError: a resumed run would differ from the saved one or get other data, or see `Recipe`, `create_network`,
            `Trainer`.
        ImportError: one of the recipe's `imports` fails.
        FloatingPointError: the loss is no longer finite; the last checkpoint is from before.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first, after the last epoch also the result.
    """
    folder = Path(output)
    import_modules(recipe.imports)
    with ranks(device) as group, run_folder(folder, group, "run", resume=resume):
        saved = finished = None
        if resume:
            saved = load_run(folder)
            check_same(recipe, saved.settings)
            finished = read_result(folder) if saved.progress.epoch == recipe.epochs else None
            if finished is not None and recipe.data == saved.settings.data:
                return finished
        group.wait()  # all ranks have read the folder before one writes to it
        with group.together():  # a failing rank must not leave the others waiting
            data = data or open_recipe_data(recipe, group)
            if saved is not None:
                check_same_data(data[2].identity, saved)
        if finished is not None:
            return finished
        loop = Loop(recipe, folder, group, data, model, group.on_main(echo), saved)
        loop.run(saved)
        result = loop.finish()
        loop.stop_if_asked()
        return result


def check_start(recipes: Iterable[Recipe], device: str | None) -> DataIdentity:
    """Open the data of the first recipe and make the network of each, so that errors are raised before any training.

    Returns the identity of the data.

    Raises:
        ValueError, OSError, ImportError: see `open_data`, `create_network` and `import_modules`.
    """
    info = None
    for recipe in recipes:
        import_modules(recipe.imports)
        if info is None:
            with ranks(device) as group:
                _, _, info = open_recipe_data(recipe, group)
        create_network(recipe, num_classes=len(info.classes), in_chans=info.channels, echo=lambda line: None)
    return info.identity if info is not None else DataIdentity()


def open_recipe_data(recipe: Recipe, group: Ranks) -> Data:
    """Train loader, test loader and description of a recipe's data, for this rank."""
    return open_data(DataConfig.of(recipe), seed=recipe.seed, rank=group.rank, world_size=group.world_size)
