"""`Comparison`: the accuracies of networks that were trained with the same seeds, and tests of their differences."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from sase_attn.comparison.paired import FEWEST, Difference
from sase_attn.records import read_record

NAME = "comparison.json"


@dataclass(frozen=True)
class Network:
    """A network of a comparison, with one value for each seed.

    Attributes:
        label: its name in the comparison.
        fields: the recipe fields that make it, such as `model` and `model_kwargs`.
        parameters: the number of its parameters.
        top1, loss: on the test images, after the last epoch; top-1 in percent.
        seconds: the time of each training.
        subnetwork_top1: accuracy in percent as a sub-network of a search, without retraining, if it was one.
    """

    label: str
    fields: dict[str, Any]
    parameters: int
    top1: list[float]
    loss: list[float]
    seconds: list[float]
    subnetwork_top1: float | None = None

    @property
    def accuracy(self) -> str:
        """Mean ± sample standard deviation of top-1 over the seeds, in words."""
        return f"{mean(self.top1):.2f}" + (f" ± {stdev(self.top1):.2f}" if len(self.top1) > 1 else "")


@dataclass(frozen=True)
class Comparison:
    """Networks trained by one recipe with the same seeds, in the order in which they were given.

    Attributes:
        networks: the networks with their accuracies.
        differences: each network minus the reference.
        reference: the label of the network that the others are compared with.
        seeds: each network was trained once with each seed.
        recipe: the fields that all networks have in common.
        test_images: the number of images that accuracy was measured on.
        tau, tau_p: Kendall's τ between the accuracy as a sub-network and after retraining, over the networks that have
            both, and its p-value; None for fewer than three networks, or if all are equal.
        machine, versions, commit: the machine, the versions of packages and the commit that the trainings ran with.
    """

    networks: list[Network]
    differences: list[Difference]
    reference: str
    seeds: list[int]
    recipe: dict[str, Any]
    test_images: int
    tau: float | None = None
    tau_p: float | None = None
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def table(self) -> str:
        """The comparison as text, one line for each network, then notes; without verdicts below five seeds."""
        found = {difference.label: difference for difference in self.differences}
        width = max(len(network.label) for network in self.networks)
        shared = any(network.subnetwork_top1 is not None for network in self.networks)
        lines = [f"{'':{width}}  top-1, %        {'as sub-network, %  ' * shared}minus {self.reference}, points"]
        for network in self.networks:
            subnet = "" if network.subnetwork_top1 is None else f"{network.subnetwork_top1:.2f}"
            lines.append(
                f"{network.label:{width}}  {network.accuracy:14}  {f'{subnet:>17}  ' * shared}"
                f"{difference_words(found.get(network.label))}".rstrip()
            )
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """What the numbers of the table mean, and what differences this number of seeds can show."""
        count, rank = len(self.seeds), []
        if self.tau is not None:
            rank = [f"Kendall's τ between sub-network and retrained accuracy: {self.tau:.2f} (p = {self.tau_p:.2f})"]
        lines = [*rank, f"mean ± standard deviation of {count} seeds, {self.test_images:,} test images"]
        if count < FEWEST:
            return [*lines, f"no ranking: fewer than {FEWEST} seeds tell networks apart by luck only"]
        visible = [difference.visible for difference in self.differences if difference.visible is not None]
        needed = [difference.seeds_needed for difference in self.differences if difference.seeds_needed is not None]
        if not visible:  # the reference is alone
            return lines
        return [
            *lines,
            "paired by seed: mean with its 95 % interval; verdicts are Holm-corrected over the networks, level 5 %",
            f"a true difference of {min(visible):.2f} to {max(visible):.2f} points would be seen 4 times in 5, before "
            f"the correction; half a point needs {min(needed):,} to {max(needed):,} seeds",
        ]

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read what `compare` wrote to a folder. Raises OSError, or ValueError that names the file."""
        return read_record(Path(folder) / NAME, cls)


def difference_words(difference: Difference | None) -> str:
    """A difference to the reference as text, with its interval and verdict if there are any."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.2f}"
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{difference.mean:+6.2f} {interval:16}  {difference.verdict}"
