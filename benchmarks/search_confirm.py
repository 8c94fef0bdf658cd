"""Is the genotype that the default method finds better than random ones? One search, and trainings with fresh seeds.

    python benchmarks/search_confirm.py [--jobs 2]

The search is that of the recipe `quick` on the embedded Fashion-MNIST, but with more trainings, of four epochs each.
The found genotype is trained with eight seeds that did not choose it, beside random genotypes, the network without
attention and a constant. `results/search_confirm.jsonl` has one row for each training. Stop it at any time: started
again, it continues. It takes about half an hour of two cores.
"""

import argparse
from pathlib import Path

import torch
from rows import Row, origin, put_rows

from sase_attn.search.begun import CONFIG
from sase_attn.search.compare import compared_genotypes
from sase_attn.search.config import SearchConfig
from sase_attn.search.result import SearchResult
from sase_attn.search.run import search
from sase_attn.search.signal.answers import NOTHING
from sase_attn.search.verdict import load_signal, with_verdict

STUDY = "search_confirm"
EPOCHS, TRAININGS, SEEDS, RANDOM = 4, 42, 8, 2


def searched(folder: Path, jobs: int) -> tuple[SearchResult, str]:
    """The result of the search, and the answer of its look for signal.

    If the look would end the search, the search is continued nevertheless.
    """
    config = SearchConfig.get("quick").override(train_epochs=EPOCHS, trainings=TRAININGS)
    result = search(config=config, output=folder, resume=(folder / CONFIG).exists(), jobs=jobs, device="cpu")
    looked = load_signal(folder)
    assert looked is not None
    if looked.answer == NOTHING:
        result = search(config=config.override(signal=0), output=folder, resume=True, jobs=jobs, device="cpu")
    return result, looked.answer


def main() -> None:
    """Search, train the found genotype and others, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/search_confirm"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    result, answer = searched(args.output, args.jobs)
    space = SearchConfig.get("quick").search_space()
    chosen = compared_genotypes(result.found, space, random=RANDOM, published=False)
    comparison = result.compare(chosen, seeds=result.fresh_seeds(SEEDS), epochs=EPOCHS, jobs=args.jobs, device="cpu")
    result = with_verdict(result, comparison)
    place = origin()
    new: list[Row] = [
        {
            "label": network.label,
            "seed": seed,
            "top1": top1,
            "loss": loss,
            "attention": network.fields["model_kwargs"].get("attn"),
            "trainings": len(result.trained),
            "epochs": EPOCHS,
            "count": comparison.test_images,
            "answer": answer,
            "reason": result.reason,
            **place,
        }
        for network in comparison.networks
        for seed, top1, loss in zip(comparison.seeds, network.top1, network.loss, strict=True)
    ]
    put_rows(STUDY, new, lambda row: True)
    print(comparison.table())
    print(result.reason)


if __name__ == "__main__":
    main()
