"""`Comparison`: what a search's folder keeps of networks that were retrained by one recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sase_attn.records import read_record

NAME = "comparison.json"


@dataclass(frozen=True)
class Compared:
    """A network of a comparison, with a value a seed of the accuracy after retraining.

    Attributes:
        label: its name in the comparison.
        genotype: as a string; None for the network without attention.
        top1, loss: on the test images, after the last epoch; top-1 in percent.
        seconds: of each training.
        supernet_top1: accuracy in percent as a sub-network of the search, without retraining.
    """

    label: str
    genotype: str | None
    top1: list[float]
    loss: list[float]
    seconds: list[float]
    supernet_top1: float | None = None

    @property
    def mean(self) -> float:
        """Mean of top-1 over the seeds."""
        return mean(self.top1)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of top-1 over the seeds; None for one seed."""
        return stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """Networks retrained by one recipe, the best mean first.

    Attributes:
        rows: a network each.
        seeds: each network was trained once with each.
        recipe: the fields that all networks have in common.
        test_images: how many images accuracy was measured on.
        tau, tau_p: Kendall's τ between the accuracy as a sub-network and after retraining, over the networks that have
            both, and its p-value; None for fewer than three, or where all are equal.
        verdict: who is ahead, in words.
        machine, versions, commit: where the trainings ran.
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
        """A line of text a network, below a line of headings."""
        width = max(len(row.label) for row in self.rows)
        lines = [f"{'':{width}}  top-1, %        seeds  as sub-network, %"]
        for row in self.rows:
            spread = "" if row.std is None else f" ± {row.std:.2f}"
            subnet = "" if row.supernet_top1 is None else f"{row.supernet_top1:.2f}"
            lines.append(f"{row.label:{width}}  {f'{row.mean:.2f}{spread}':14}  {len(row.top1):5}  {subnet:>17}")
        return "\n".join(lines)

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison | None":
        """The comparison that a search's folder holds, if any."""
        path = Path(folder) / NAME
        if not path.is_file():
            return None
        return read_record(path, cls)
