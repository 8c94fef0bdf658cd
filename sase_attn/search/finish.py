"""`finish`: the end of a search by shared weights, which chooses the genotype and writes the result."""

import json
from typing import Any

from sase_attn.genotype import Genotype
from sase_attn.search.compare import load_comparison
from sase_attn.search.result import SearchResult, stable_since
from sase_attn.search.shared_weights.choose import choose
from sase_attn.search.shared_weights.curvature import WINDOW
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.scorer import Scorer
from sase_attn.search.verdict import with_verdict
from sase_attn.training.distributed import Ranks
from sase_attn.training.provenance import device_name


def finish(searcher: Searcher, group: Ranks) -> SearchResult:
    """Choose the genotype, on rank 0, and write the result.

    Args:
        searcher: the searcher, with a trained super-network.
        group: the processes of the search.

    Raises:
        ValueError: a file of the folder is damaged. OSError: a file cannot be written.
    """
    if group.is_main:
        result = _result(searcher, group)
        if searcher.settings.signal:
            result = with_verdict(result, load_comparison(searcher.folder))
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
