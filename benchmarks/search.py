"""Search on CIFAR-10 with several seeds, retrain the found genotypes beside random ones, and write the rows.

    python benchmarks/subset.py CIFAR10 data10k --train 1000 --test 500
    python benchmarks/subset.py CIFAR10 data5k --train 500 --test 300
    python benchmarks/search.py data10k --train-data data5k [--jobs 2]

Searches are the paper's, of second order, except for their length: 10 epochs instead of 50 on 5,000 + 5,000 images
instead of 25,000 + 25,000, with the learning rate of alpha raised from 3e-4 to 6e-3 as there are 25 times fewer steps.
Stop it at any time: started again, it continues. `results/search.jsonl` has one row for each search, and
`results/search_retrained.jsonl` one for each training.
"""

import argparse
import json
from pathlib import Path

import torch
from rows import add_row

from sase_attn import genotypes
from sase_attn.comparison.folders import folder_names
from sase_attn.genotype import Genotype
from sase_attn.search.agreement import agreement
from sase_attn.search.compare import RETRAINED
from sase_attn.search.config import SearchConfig
from sase_attn.search.report.log_rows import read_log
from sase_attn.search.report.page import write_report
from sase_attn.search.result import SearchResult
from sase_attn.search.seeds import search_seeds
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.search.shared_weights.op_scales import energy_fractions
from sase_attn.training.recipes import Recipe

RANDOM = 3


def main() -> None:
    """Search, compare, and write the rows and the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="image folder to search on")
    parser.add_argument("--train-data", help="image folder to retrain on (default: the same)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2, help="of the searches and of the trainings")
    parser.add_argument("--alpha-lr", type=float, default=6e-3)
    parser.add_argument("--train-epochs", type=int, default=10)
    parser.add_argument("--found", type=int, metavar="N", help="retrain only what the first N seeds found")
    parser.add_argument("--jobs", type=int, default=1, help="searches or trainings at a time")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/search"))
    args = parser.parse_args()
    config = SearchConfig(data=args.data, size=32, hvp="fd", epochs=args.epochs, alpha_lr=args.alpha_lr)
    results = search_seeds(config, args.output, range(args.seeds), jobs=args.jobs)
    print("\n".join(agreement(results).lines()))
    for result in results:
        add_row("search", search_row(result))

    recipe = Recipe.get("cifar").override(
        data=args.train_data or args.data, size=32, epochs=args.train_epochs, warmup_epochs=1, clip_grad=5.0
    )
    chosen: dict[str, Genotype] = {f"found by seed {r.config['seed']}": r.found for r in results[: args.found]}
    chosen["the paper's"] = genotypes["sase"]
    chosen |= {f"random {seed}": results[0].space.random(seed) for seed in range(RANDOM)}
    comparison = results[0].compare(chosen, seeds=range(args.seeds), recipe=recipe, jobs=args.jobs)
    folders = folder_names(network.label for network in comparison.networks)
    for network in comparison.networks:
        for seed in comparison.seeds:
            folder = Path(results[0].output) / RETRAINED / f"{folders[network.label]}-seed{seed}"
            trained = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            trained["recipe"]["data"] = Path(trained["recipe"]["data"]).name
            del trained["output"]
            attention = network.fields["model_kwargs"].get("attn")
            values = {"genotype": attention, "supernet_top1": network.subnetwork_top1}
            add_row("search_retrained", {"label": network.label, "seed": seed, **trained, **values})
    print(comparison.table())
    print(f"report: {write_report(results[0].output)}")


def search_row(result: SearchResult) -> dict[str, object]:
    """The result of a search as a row, without the path of its folder."""
    values = {key: value for key, value in vars(result).items() if key not in ("output", "scores")}
    config = dict(result.config) | {"data": Path(result.config["data"]).name}
    epochs = [row for row in read_log(Path(result.output)) if row["kind"] == "epoch"]
    shares = {
        when: energy_fractions(row["scales"], torch.tensor(row["weights"]))
        for when, row in zip(("first", "last"), (epochs[0], epochs[-1]), strict=True)
    }
    genotypes_by_epoch = load_search(Path(result.output)).progress.genotypes
    label = f"seed {result.config['seed']}"
    extra = {"energy": shares, "genotypes": genotypes_by_epoch, "scales": epochs[-1]["scales"]}
    return {"label": label, "seed": result.config["seed"], **values, "config": config, **extra}


if __name__ == "__main__":
    main()
