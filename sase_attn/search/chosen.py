"""`save_chosen`: write the result of a search whose genotype was chosen by trainings from scratch."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sase_attn.genotype import Genotype
from sase_attn.search.compare import load_comparison
from sase_attn.search.config import SearchConfig
from sase_attn.search.result import NAME, SearchResult, TrainingRow
from sase_attn.search.trained import Trained
from sase_attn.search.verdict import with_verdict
from sase_attn.training.data import DataIdentity
from sase_attn.training.distributed import Ranks
from sase_attn.training.provenance import device_name


def save_chosen(
    config: SearchConfig,
    folder: Path,
    found: Genotype,
    done: Sequence[Trained],
    *,
    epochs: int,
    seconds: float,
    data: DataIdentity,
    group: Ranks,
) -> SearchResult:
    """Write `genotype.json` and `result.json`, and return the result on every rank.

    If the folder holds a result of the same trainings and genotype, its time, machine and versions are kept.

    Args:
        config: the configuration of the search.
        folder: the folder of the search.
        found: the chosen genotype.
        done: the trainings that it was chosen by.
        epochs: the epochs of each training.
        seconds: the time that this worker took.
        data: the data of the trainings.
        group: the processes of this worker.

    Raises:
        ValueError: a file of the folder is damaged. OSError: a file cannot be written.
    """
    result = SearchResult(
        output=str(folder),
        config=json.loads(config.to_json()),
        genotype=str(found),
        argmax=str(found),
        select=config.method,
        columns={edge: list(names) for edge, names in config.search_space().ops.items()},
        genotype_top1=None,
        epochs=epochs,
        stopped_epoch=None,
        seconds=round(seconds, 2),
        processes=group.world_size,
        device=device_name(group.device),
        data=data,
        trained=[TrainingRow.of(row) for row in done],
    )
    with group.together():
        if group.is_main:
            before = SearchResult.load(folder) if (folder / NAME).is_file() else None
            if before is not None and before.trained == result.trained and before.genotype == result.genotype:
                result = replace(before, output=str(folder), config=result.config)
            result = with_verdict(result, load_comparison(folder))
            result.save()
    return group.share(result)
