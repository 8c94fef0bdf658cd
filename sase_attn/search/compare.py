"""Retrain genotypes beside each other by one recipe, and say whether any is ahead beyond the spread of the seeds."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from sase_attn.files import write_json
from sase_attn.genotype import Genotype, genotypes
from sase_attn.records import read_record
from sase_attn.search.choose import Scorer
from sase_attn.search.config import SearchConfig
from sase_attn.search.space import SearchSpace
from sase_attn.training import checkpoint
from sase_attn.training.jobs import train_all
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult
from sase_attn.training.run import train

NAME = "comparison.json"
Build = Callable[[Genotype | None], nn.Module]
_OWN = ("model", "model_kwargs", "seed")  # fields of the recipe that are each network's own


@dataclass(frozen=True)
class Compared:
    """A network of a comparison: its genotype (None for the plain one), and top-1 in percent, a value a seed.

    `supernet_top1` is its accuracy as a sub-network of the search, without retraining.
    """

    label: str
    genotype: str | None
    top1: list[float]
    loss: list[float]
    seconds: list[float]
    supernet_top1: float | None = None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.top1)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """Networks retrained by one recipe, the best mean first.

    Attributes:
        seeds: of each network. `recipe`: what all have in common. `test_images`: on which accuracy was measured.
        tau, tau_p: Kendall's τ between the accuracy as a sub-network and after retraining, over the networks that have
            both, and its p-value; None for fewer than three, or where all are equal.
        verdict: in words.
    """

    rows: list[Compared]
    seeds: list[int]
    recipe: dict[str, Any]
    test_images: int
    tau: float | None
    tau_p: float | None
    verdict: list[str] = field(default_factory=list)
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def table(self) -> str:
        """As lines of text."""
        width = max(len(row.label) for row in self.rows)
        lines = [f"{'':{width}}  top-1, %        seeds  as sub-network, %"]
        for row in self.rows:
            spread = "" if row.std is None else f" ± {row.std:.2f}"
            shared = "" if row.supernet_top1 is None else f"{row.supernet_top1:.2f}"
            lines.append(f"{row.label:{width}}  {f'{row.mean:.2f}{spread}':14}  {len(row.top1):5}  {shared:>17}")
        return "\n".join(lines)

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison | None":
        """The comparison that a search's folder holds, if any."""
        path = Path(folder) / NAME
        if not path.is_file():
            return None
        return read_record(path, cls)


def compared_genotypes(
    found: Genotype, space: SearchSpace, *, random: int, published: bool = True
) -> dict[str, Genotype]:
    """The found genotype, the published ones that the space holds, and random ones."""
    chosen = {"found": found}
    for name, genotype in genotypes.items() if published else ():
        try:
            space.columns(genotype)
        except ValueError:
            continue
        chosen[name] = genotype
    return chosen | {f"random-{seed}": space.random(seed) for seed in range(random)}


def networks(config: SearchConfig, chosen: Mapping[str, Genotype], plain: bool) -> dict[str, dict[str, Any]]:
    """Recipe fields of each network: that of the search with the genotype in the place of the mixtures, or plain."""
    made: dict[str, dict[str, Any]] = {}
    if plain:
        made["plain"] = {"model": config.model, "model_kwargs": dict(config.model_kwargs)}
    for label, genotype in chosen.items():
        arguments = {"base": config.model, "after": list(config.after), "attn": str(genotype)}
        made[label] = {"model": "attached", "model_kwargs": {**config.model_kwargs, **arguments}}
    return made


def default_recipe(config: SearchConfig, epochs: int) -> Recipe:
    """The `embedded` recipe for so many epochs, on the data of the search: all its training images."""
    names = ("data", "size", "augment", "color_jitter", "workers", "on_broken")
    values = {name: getattr(config, name) for name in names}
    return Recipe.get("embedded").override(epochs=epochs, warmup_epochs=min(1, epochs - 1), **values)


def compare(
    folder: Path,
    config: SearchConfig,
    chosen: Mapping[str, Genotype],
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    plain: bool = True,
    scorer: Scorer | None = None,
    build: Build | None = None,
    jobs: int = 1,
    device: str | None = None,
    echo: Callable[[str], object] = print,
) -> Comparison:
    """Retrain genotypes; see `SearchResult.compare`. Runs that have finished are not done again, others resume."""
    if build is not None and jobs != 1:
        raise ValueError(f"jobs: wanted 1 with networks that `build` makes here, got {jobs}")
    if not seeds or not chosen:
        raise ValueError(f"wanted one genotype or more and one seed or more, got {len(chosen)} and {len(seeds)}")
    made = networks(config, chosen, plain) if build is None else dict.fromkeys([*["plain"] * plain, *chosen], {})
    runs = {
        (label, seed): (recipe.override(seed=seed, **made[label]), folder / "retrained" / f"{label}-seed{seed}")
        for seed in seeds
        for label in made
    }
    trained = (
        train_all(list(runs.values()), jobs=jobs, device=device, echo=echo)
        if build is None
        else _train_here(runs, chosen, build, device, echo)
    )
    results: dict[tuple[str, int], TrainResult] = {}
    for key, result in zip(runs, trained, strict=True):
        results[key] = result
        echo(f"{key[0]}, seed {key[1]}: top-1 {result.top1:.2f} % after {result.seconds:.0f} s")
    rows = []
    for label in made:
        done = [results[label, seed] for seed in seeds]
        genotype = chosen.get(label)
        rows.append(
            Compared(
                label=label,
                genotype=None if genotype is None else str(genotype),
                top1=[result.top1 for result in done],
                loss=[result.loss for result in done],
                seconds=[result.seconds for result in done],
                supernet_top1=None if scorer is None or genotype is None else scorer.score(genotype).top1,
            )
        )
    rows.sort(key=lambda row: -row.mean)
    tau, p = rank_correlation(rows)
    one = next(iter(results.values()))
    comparison = Comparison(
        rows=rows,
        seeds=list(seeds),
        recipe={name: value for name, value in json.loads(recipe.to_json()).items() if name not in _OWN},
        test_images=one.count,
        tau=tau,
        tau_p=p,
        verdict=verdict(rows, one.count),
        machine=one.machine,
        versions=one.versions,
        commit=one.commit,
    )
    write_json(folder / NAME, asdict(comparison))
    return comparison


def _train_here(
    runs: Mapping[tuple[str, int], tuple[Recipe, Path]],
    chosen: Mapping[str, Genotype],
    build: Build,
    device: str | None,
    echo: Callable[[str], object],
) -> Iterator[TrainResult]:
    for (label, seed), (recipe, folder) in runs.items():
        torch.manual_seed(seed)
        model = build(chosen.get(label))
        resume = (folder / checkpoint.NAME).exists()
        yield train(recipe, folder, resume=resume, model=model, device=device, echo=echo)


def rank_correlation(rows: Sequence[Compared]) -> tuple[float | None, float | None]:
    """Kendall's τ-b between accuracy as a sub-network and after retraining, and its p-value."""
    pairs = [(row.supernet_top1, row.mean) for row in rows if row.supernet_top1 is not None]
    if len(pairs) < 3:
        return None, None
    try:
        from scipy.stats import kendalltau
    except ImportError:
        raise ImportError('rank correlations need scipy: pip install "sase-attn[search]"') from None
    found = kendalltau(*zip(*pairs, strict=True))
    tau = float(found.statistic)
    return (None, None) if tau != tau else (tau, float(found.pvalue))


def verdict(rows: Sequence[Compared], test_images: int) -> list[str]:
    """Who is ahead, in words; "no confident winner" where the margin is below the seeds' spread. Best mean first."""
    first, *others = rows
    if not others:
        return ["one network: nothing to compare it with"]
    second = others[0]
    margin = first.mean - second.mean
    ahead = f"{first.label} is ahead of {second.label} by {margin:.2f} points"
    spreads = [row.std for row in rows if row.std is not None]
    lines = []
    if not spreads:
        lines.append(f"no confident winner: {ahead}, with one seed each, so that the spread of the seeds is unknown")
    else:
        spread = mean([std**2 for std in spreads]) ** 0.5
        seeds = f"the seeds of one network spread by {spread:.2f} (standard deviation, {len(first.top1)} seeds)"
        lines.append(f"{ahead}; {seeds}" if margin >= spread else f"no confident winner: {ahead}, and {seeds}")
    found = next((row for row in rows if row.label.startswith("found")), None)
    for label, rivals in (
        ("plain", [row for row in rows if row.label == "plain"]),
        ("the mean of the random ones", [row for row in rows if row.label.startswith("random")]),
    ):
        if found is not None and rivals:
            difference = found.mean - mean([row.mean for row in rivals])
            lines.append(f"{found.label} against {label}: {difference:+.2f} points")
    error = 100 * (first.mean / 100 * (1 - first.mean / 100) / test_images) ** 0.5
    lines.append(f"{test_images:,} test images: the standard error of one accuracy is {error:.2f} points")
    return lines
