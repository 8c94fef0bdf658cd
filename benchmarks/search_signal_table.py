"""The table of `results/search_signal.jsonl`: genotypes found by shared weights, among those of the table."""

from collections.abc import Mapping
from statistics import mean, stdev

from rows import Row

from sase_attn.comparison.kendall import kendall

Accuracies = dict[str, dict[int, float]]
"""Top-1 of each training, by genotype and seed."""


def accuracies(rows: list[Row]) -> Accuracies:
    """The accuracies in rows of trainings."""
    found: Accuracies = {}
    for row in rows:
        found.setdefault(row["label"], {})[row["seed"]] = row["top1"]
    return found


def searched(searches: list[Row], random: list[Row], trained: list[Row], place: str) -> str:
    """One line for each method, over the searches whose genotypes have been trained.

    Args:
        searches: one row for each search.
        random: trainings of the table's random genotypes.
        trained: trainings of the found genotypes, with the same seeds.
        place: the provenance of the rows, in words.
    """
    table = accuracies([row for row in random if row.get("block") is not None])
    every = table | accuracies(trained)
    lines = [
        "| search | core minutes | found, minus the mean random one, points | percentile of random | τ of losses |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for method in dict.fromkeys(row["label"] for row in searches):
        mine = [row for row in searches if row["label"] == method and row["genotype"] in every]
        if mine:
            lines.append(_line(method, mine, every, table))
    first = searches[0]["config"]
    seeds = sorted({seed for seeds in table.values() for seed in seeds})
    notes = (
        f"Searches of {first['epochs']} epochs of a half of the training images; what each found was then trained for "
        f"960 steps with {len(seeds)} seeds that no search knew, beside {len(table)} random genotypes; mean ± standard "
        f"deviation over searches. Percentile: share of the random genotypes whose mean is lower, search by search. τ: "
        f"Kendall's, of the losses as sub-networks and the mean accuracies of the random genotypes. {place}."
    )
    return "\n".join([*lines, "", notes])


def _line(method: str, mine: list[Row], every: Accuracies, table: Accuracies) -> str:
    means = {label: mean(seeds.values()) for label, seeds in table.items()}
    above, percentiles, taus = [], [], []
    for row in mine:
        found = every[row["genotype"]]
        above.append(mean(top1 - mean(_at(table, seed)) for seed, top1 in found.items()))
        percentiles.append(100 * mean(mean(found.values()) > other for other in means.values()))
        known = [label for label in row["losses"] if label in means]
        taus.append(kendall([-row["losses"][label] for label in known], [means[label] for label in known])[0])
    spread = f" ± {stdev(above):.2f}" if len(above) > 1 else ""
    minutes = mean(row["cpu_seconds"] for row in mine) / 60
    words = ", ".join("" if tau is None else f"{tau:+.2f}" for tau in taus)
    places = ", ".join(f"{place:.0f}" for place in percentiles)
    return f"| {method} | {minutes:.1f} | {mean(above):+.2f}{spread} | {places} | {words} |"


def _at(table: Mapping[str, Mapping[int, float]], seed: int) -> list[float]:
    """The accuracies of all genotypes with a seed."""
    return [seeds[seed] for seeds in table.values() if seed in seeds]
