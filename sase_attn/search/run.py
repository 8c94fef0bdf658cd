"""`search`: one search from a configuration to a folder, new or resumed, and the choice of a genotype at its end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from sase_attn.genotype import Genotype
from sase_attn.search.by_trainings import CONFIG, saved_config, search_by_trainings
from sase_attn.search.config import BY_TRAININGS, SearchConfig
from sase_attn.search.result import NAME, SearchResult, stable_since
from sase_attn.search.shared_weights.checkpoint import MAY_CHANGE, load_search
from sase_attn.search.shared_weights.choose import choose
from sase_attn.search.shared_weights.curvature import WINDOW
from sase_attn.search.shared_weights.halves import SearchData, open_halves
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.network import create_supernet
from sase_attn.search.shared_weights.scorer import Scorer
from sase_attn.search.shared_weights.single_path import SinglePathSearcher
from sase_attn.search.space import SearchSpace
from sase_attn.training.checkpoint import check_same, check_same_data
from sase_attn.training.distributed import Ranks, ranks
from sase_attn.training.provenance import device_name
from sase_attn.training.run_folder import run_folder


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
    echo: Callable[[str], object] = print,
) -> SearchResult:
    """Search a genotype, and write everything to a folder.

    The folder gets `config.json`, `log.jsonl`, `checkpoint.pt` (replaced after every epoch, and on Ctrl-C), and at the
    end `genotype.json` and `result.json`. Started by `torchrun`, it is one process of many; their alphas stay equal.

    A method without shared weights trains genotypes from scratch, see `search_by_trainings`. Each call is then a
    worker, and goes on with what the folder holds.

    Args:
        model: a network with super-network blocks, by `attach(model, after=…, attn=space.block)` for example, with its
            initial weights; by default the configuration's. It is trained in place.
        space: that of its blocks; by default the configuration's.
        data: batches that train weights and alpha; by default the configuration's data, divided by its seed.
        config: how; the paper's recipe by default.
        output: a folder that does not exist yet, or is empty.
        resume: go on from the checkpoint in `output`; a search that has finished just gives its result, or chooses anew
            where the configuration selects differently.
        storage: the URL of a database in which trainings are, see `run_trainings`.
        jobs: workers to start here, if trainings are from scratch.
        device: "cpu", "cuda" or "cuda:1"; by default CUDA where there is a device.
        echo: gets a line for each thing that people may want to read; on rank 0 only.

    Raises:
        FileExistsError: `output` is in use (`InUseError`: by another process). FileNotFoundError: nothing to resume.
        ValueError: a resumed search would differ from the saved one or get other data, or see `SearchConfig`,
            `create_supernet`, `open_halves`, `architecture_of`; or a method without shared weights is given a model, a
            space or data.
        DivergedError: a loss or a gradient is no number; it names the step and the operation.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
    """
    config, folder = config or SearchConfig(), Path(output)
    if config.method in BY_TRAININGS:
        if model is not None or space is not None or data is not None:
            raise ValueError(f"{config.method} trains networks by recipes: wanted no model, space or data of your own")
        if resume and saved_config(folder) is None:
            raise FileNotFoundError(f"nothing to resume: {folder / CONFIG} does not exist")
        return search_by_trainings(config, folder, storage=storage, jobs=jobs, device=device, echo=echo)
    with ranks(device) as group, run_folder(folder, group, "search", resume=resume):
        saved = None
        if resume:
            saved = load_search(folder)
            check_same(config, saved.settings, MAY_CHANGE)
            if (folder / NAME).is_file():
                finished = SearchResult.load(folder)
                if set(config.differences(finished.settings)) <= {"workers", "log_every", "imports"}:
                    return finished
        group.wait()  # all have looked before one writes
        echo = group.on_main(echo)
        with group.together():  # a disk of one machine must not leave the other ranks waiting
            data = data or open_halves(config, group)
            if saved is not None:
                check_same_data(data.info.identity, saved)
        if model is None:
            info = data.info
            model = create_supernet(
                config, num_classes=len(info.classes), in_chans=info.channels, size=info.size, echo=echo
            )
        kind = SinglePathSearcher if config.method == "single-path" else Searcher
        searcher = kind(config, model, data, folder, group, echo, space)
        searcher.run(saved)
        return _finish(searcher, group)


def _finish(searcher: Searcher, group: Ranks) -> SearchResult:
    """Choose the genotype, on rank 0, and write the result."""
    if group.is_main:
        result = _result(searcher, group)
        result.save()
    group.wait()
    return result if group.is_main else SearchResult.load(searcher.folder)


def _result(searcher: Searcher, group: Ranks) -> SearchResult:
    config, progress, architecture, space = searcher.settings, searcher.progress, searcher.architecture, searcher.space
    scorer = Scorer(
        searcher.model,
        architecture,
        space,
        fit=searcher.sample(searcher.data.weights),
        val=searcher.sample(searcher.data.alpha),
    )
    argmax: Genotype | None = None
    of_alpha: dict[str, Any] = {}
    if config.method == "darts":
        argmax = Genotype.parse(progress.genotypes[-1 - WINDOW] if progress.stopped else progress.genotypes[-1])
        of_alpha = {
            "alpha": architecture.alpha.tolist(),
            "weights": architecture.weights().tolist(),
            "entropy": architecture.entropy().tolist(),
            "margin": architecture.margin().tolist(),
            "supernet_top1": scorer.mixture().top1,
            "stable_since": stable_since(progress.genotypes),
        }
    chosen, scored = choose(config, scorer, argmax, searcher.folder, tune=searcher.tune, echo=searcher.echo)
    return SearchResult(
        output=str(searcher.folder),
        config=json.loads(config.to_json()),
        genotype=str(chosen),
        argmax=str(argmax or chosen),
        select="score" if argmax is None else config.select,
        columns={edge: list(names) for edge, names in space.ops.items()},
        genotype_top1=scorer.score(chosen).top1,
        epochs=progress.epoch,
        stopped_epoch=progress.epoch if progress.stopped else None,
        seconds=round(progress.seconds, 2),
        processes=group.world_size,
        device=device_name(group.device),
        data=searcher.data.info.identity,
        scores=[(str(s.genotype), s.top1, s.loss) for s in scored],
        **of_alpha,
    )
