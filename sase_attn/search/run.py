"""`search`: one search from a configuration to a folder, new or resumed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from torch import nn

from sase_attn.search.begun import CONFIG, saved_config
from sase_attn.search.by_shared_weights import search_by_shared_weights
from sase_attn.search.by_trainings import search_by_trainings
from sase_attn.search.config import BY_TRAININGS, SearchConfig
from sase_attn.search.result import SearchResult
from sase_attn.search.shared_weights.halves import SearchData
from sase_attn.search.space import SearchSpace


def search(
    model: nn.Module | None = None,
    space: SearchSpace | None = None,
    data: SearchData | None = None,
    config: SearchConfig | None = None,
    *,
    output: str | Path,
    resume: bool = False,
    storage: str | None = None,
    jobs: int = 1,
    device: str | None = None,
    extra_files: Mapping[str, str] = MappingProxyType({}),
    echo: Callable[[str], object] = print,
) -> SearchResult:
    """Search for a genotype, and write everything to a folder.

    The folder gets `config.json`, `log.jsonl`, `checkpoint.pt` (replaced after every epoch, and on Ctrl-C), and at the
    end `genotype.json` and `result.json`. Started by `torchrun`, it is one process of many; their alphas stay equal.

    With `signal` in the configuration, it first tests whether genotypes differ in accuracy, by trainings from scratch.
    If they do not, nothing else is trained, and the genotype is a published one.

    A method without shared weights trains genotypes from scratch, see `search_by_trainings`. Several calls may then
    work on one folder, each as a worker; so they may during that test.

    Args:
        model: a network with super-network blocks, by `attach(model, after=…, attn=space.block)` for example, with its
            initial weights; by default the configuration's. It is trained in place.
        space: the space of its blocks; by default the configuration's.
        data: batches that train weights and alpha; by default the configuration's data, divided by its seed.
        config: the configuration; by default `SearchConfig()`, which differs from the recipe `paper` in some points.
        output: a folder that does not exist yet, or is empty.
        resume: continue the search in `output`. If it has finished, its result is returned; if the configuration now
            selects differently, the genotype is chosen again.
        storage: the URL of a database that records trainings from scratch, such as "postgresql://user@host/database";
            by default a file in `output` does.
        jobs: workers to start on this machine for trainings from scratch, including this one.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        extra_files: the texts of further files to write to the folder at the start, by file name.
        echo: called with each line of progress, on rank 0 only.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process; `OnlyLookedError`: this worker has taken
            part in the look for signal, and that process continues). FileNotFoundError: nothing to resume.
        ValueError: a resumed search would differ from the saved one or get other data, or see `SearchConfig`,
            `SignalPlan`, `create_supernet`, `open_halves`, `architecture_of`; or a model, a space or data are given to
            a method without shared weights, or with a look for signal, which both train by recipes.
        DivergedError: a loss or a gradient is not finite; the message names the step and the operation.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    config, folder = config or SearchConfig(), Path(output)
    own = model is not None or space is not None or data is not None
    if config.method in BY_TRAININGS:
        if own:
            raise ValueError(f"{config.method} trains networks by recipes: wanted no model, space or data of your own")
        if resume and saved_config(folder) is None:
            raise FileNotFoundError(f"nothing to resume: {folder / CONFIG} does not exist")
        return search_by_trainings(
            config, folder, storage=storage, jobs=jobs, device=device, extra_files=extra_files, echo=echo
        )
    if own and config.signal:
        raise ValueError(
            "signal: wanted 0 with a model, space or data of your own, as the look for signal trains networks by "
            f"recipes, got {config.signal}"
        )
    return search_by_shared_weights(
        config,
        folder,
        model=model,
        space=space,
        data=data,
        resume=resume,
        storage=storage,
        jobs=jobs,
        device=device,
        extra_files=extra_files,
        echo=echo,
    )
