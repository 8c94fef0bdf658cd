"""`SearchResult`: the genotype that a search found, how certain that is, and the provenance."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sase_attn.attentions.starting_gain import UNIT
from sase_attn.comparison import Comparison
from sase_attn.files import write_json
from sase_attn.genotype import EDGES, Genotype
from sase_attn.records import read_record
from sase_attn.search.compare import Build, compare, compared_genotypes, default_recipe
from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.checkpoint import load_search
from sase_attn.search.shared_weights.halves import SearchData, open_halves, sample_batches
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, start_gates
from sase_attn.search.shared_weights.scorer import Scorer
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import mean_entropy
from sase_attn.search.trained import Trained, Training
from sase_attn.training.checkpoint import check_same_data, fitting_network
from sase_attn.training.data import DataIdentity
from sase_attn.training.distributed import Ranks
from sase_attn.training.provenance import commit, machine, versions
from sase_attn.training.recipes import Recipe

NAME = "result.json"


FRESH_SEED = 1000
"""The first seed of the trainings that judge a genotype which other trainings have chosen, unless those reached it."""


@dataclass(frozen=True)
class TrainingRow:
    """A training from scratch, as a file holds it: genotype, seed, top-1 in percent and loss; None if it failed."""

    genotype: str
    seed: int
    top1: float | None
    loss: float | None

    @classmethod
    def of(cls, row: Trained) -> "TrainingRow":
        """The row of a training that has ended."""
        values = (None, None) if row.failed else (row.top1, row.loss)
        return cls(str(row.training.genotype), row.training.seed, *values)

    @property
    def trained(self) -> Trained:
        """The training of this row: the inverse of `of`."""
        training = Training(Genotype.parse(self.genotype), self.seed)
        if self.top1 is None or self.loss is None:
            return Trained.failure(training)
        return Trained(training, self.top1, self.loss)


@dataclass(frozen=True)
class SearchResult:
    """A finished search. Accuracies are in percent, on images that did not train the weights.

    The method "single-path" has no alpha, so that what follows from alpha is empty or None. Methods that train
    genotypes from scratch have no shared weights either.

    Attributes:
        output: the folder of the search.
        config: the fields of its `SearchConfig`.
        genotype: the chosen genotype.
        argmax: the genotype of the largest alphas, which may differ.
        select: how it was chosen.
        columns: the operations of each edge, in the order of alpha's columns.
        genotype_top1: accuracy of the genotype's sub-network, with norm statistics refitted; None without shared
            weights.
        epochs: how many epochs were trained: of the super-network, or of each training from scratch.
        stopped_epoch: the epoch at which the early stop ended the search, otherwise None.
        seconds: the time of the search without retraining: over all sessions for a super-network; for trainings from
            scratch, that of the worker that wrote the result.
        processes: how many processes shared the work.
        device: the device that it ran on.
        alpha: (6, K), one row for each edge.
        weights: (6, K), softmax(alpha) of each edge.
        entropy: the entropy of each edge's weights over its largest value: 1 is undecided; 0 if there is one operation.
        margin: for each edge, the difference between its two largest weights.
        supernet_top1: accuracy of the super-network with its mixtures.
        stable_since: the first epoch from which on the argmax no longer changed.
        data: the identity of the data.
        scores: genotypes whose sub-networks were scored, with accuracy and loss, the lowest loss first.
        trained: the trainings from scratch that it was chosen by, those of a look for signal among them.
        decided: whether the found block is known to be better than random ones, see `with_verdict`.
        reason: why, or why not.
        machine, versions, commit: the machine, the versions of packages and the commit that it ran with.
    """

    output: str
    config: dict[str, Any]
    genotype: str
    argmax: str
    select: str
    columns: dict[str, list[str]]
    genotype_top1: float | None
    epochs: int
    stopped_epoch: int | None
    seconds: float
    processes: int
    device: str
    alpha: list[list[float]] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    margin: list[float] = field(default_factory=list)
    supernet_top1: float | None = None
    stable_since: int | None = None
    data: DataIdentity = DataIdentity()
    scores: list[tuple[str, float, float]] = field(default_factory=list)
    trained: list[TrainingRow] = field(default_factory=list)
    decided: bool = False
    reason: str = "nothing was compared"
    machine: str = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)
    commit: str | None = field(default_factory=commit)

    @property
    def found(self) -> Genotype:
        """The genotype that was chosen."""
        return Genotype.parse(self.genotype)

    def warnings(self) -> list[str]:
        """Reasons not to trust the choice before anything is retrained, one line each."""
        if not self.alpha:
            return []
        lines = []
        entropy = mean_entropy(self.entropy, self.columns)
        if entropy > 0.9:
            lines.append(f"alpha has hardly decided: its entropy is {entropy:.3f} of the uniform one's")
        for edge, ops, weights, margin in zip(EDGES, self.columns.values(), self.weights, self.margin, strict=True):
            if len(ops) > 1 and margin < 0.02:
                first, second = sorted(range(len(ops)), key=lambda k: -weights[k])[:2]
                lines.append(f"{edge}: {_lead(ops[first], ops[second], margin)}")
        if self.stable_since == self.epochs > 1:
            lines.append("the genotype still changed in the last epoch")
        if self.argmax != self.genotype:
            lines.append(f"the largest alphas give another genotype: {self.argmax}")
        return lines

    @property
    def settings(self) -> SearchConfig:
        """The configuration of the search."""
        return SearchConfig.from_json(json.dumps(self.config))

    @property
    def space(self) -> SearchSpace:
        """The space of the search."""
        return SearchSpace({edge: tuple(names) for edge, names in self.columns.items()}, self.found.residual)

    def fresh_seeds(self, count: int) -> range:
        """New seeds for trainings that judge the found genotype: none of them took part in its choice."""
        first = max([FRESH_SEED, *(row.seed + 1 for row in self.trained)]) if self.trained else 0
        return range(first, first + count)

    def scorer(self, model: nn.Module | None = None, data: SearchData | None = None) -> Scorer:
        """Scores genotypes by the trained super-network, which the folder's checkpoint holds.

        Args:
            model, data: what `search` was given, if it was given any.

        Raises:
            FileNotFoundError: the checkpoint is gone. ValueError: it does not fit, or the data are others.
        """
        config = self.settings
        cpu = Ranks(0, 1, torch.device("cpu"))
        data = data or open_halves(config, cpu)
        info = data.info
        saved = load_search(Path(self.output))
        check_same_data(info.identity, saved)
        model = model or create_supernet(config, num_classes=len(info.classes), in_chans=info.channels, size=info.size)
        start_gates(model, config)
        with fitting_network():
            model.load_state_dict(saved.state["model"])
        sample = [sample_batches(loader, config.select_images) for loader in (data.weights, data.alpha)]
        architecture = architecture_of(model, self.space)
        return Scorer(model, architecture, self.space, fit=sample[0], val=sample[1])

    def compare(
        self,
        genotypes: Mapping[str, Genotype] | None = None,
        *,
        random: int = 2,
        published: bool = True,
        seeds: Sequence[int] | None = None,
        recipe: Recipe | None = None,
        epochs: int | None = None,
        gain: str = UNIT,
        scorer: Scorer | None = None,
        build: Build | None = None,
        jobs: int = 1,
        device: str | None = None,
        echo: Callable[[str], object] = print,
    ) -> Comparison:
        """Retrain genotypes by one recipe with paired seeds, and test their differences to the plain network.

        It also trains the plain network, and one with a constant of the first genotype's published gain. The trainings
        and `comparison.json` are in `retrained/` in the folder. Stop it at any time: called again, it continues.

        Args:
            genotypes: the genotypes, by label; by default "found", the published ones in the space, and random ones.
            random: how many random genotypes, drawn by seeds 0, 1, ….
            published: whether to include published ones.
            seeds: each network is trained once with each seed, by default with `fresh_seeds(5)`; fewer than five give
                no verdict.
            recipe: the recipe, except for the network and the seed; by default `embedded` on the search's data.
            epochs: the epochs of the default recipe; by default those of the configuration's trainings.
            gain: what blocks start with, "unit" or "published"; see `sase_attn.attentions.set_gain`.
            scorer: measures the accuracies of the genotypes as sub-networks; by default that of the checkpoint.
            build: makes the network with a genotype, or without attention for None. It is needed where `search` was
                given a model; there is then no scorer by default.
            jobs: how many trainings run at a time, each in a process of its own.
            device, echo: as for `train`.

        Raises:
            ValueError: no genotype, no seed or no such gain, or see `train`. ImportError: scipy is not installed.
        """
        config = self.settings
        chosen = dict(genotypes or compared_genotypes(self.found, self.space, random=random, published=published))
        return compare(
            Path(self.output),
            config,
            chosen,
            recipe or default_recipe(config, epochs or config.train_epochs),
            seeds=self.fresh_seeds(5) if seeds is None else seeds,
            gain=gain,
            scorer=scorer or (self.scorer() if build is None and not self.trained else None),
            build=build,
            jobs=jobs,
            device=device,
            echo=echo,
        )

    def save(self) -> None:
        """Write `genotype.json` and `result.json` to the folder, each atomically."""
        folder = Path(self.output)
        self.found.save(folder / "genotype.json")
        write_json(folder / NAME, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> "SearchResult":
        """The result of a finished search. Raises FileNotFoundError if there is none in the folder."""
        path = Path(folder) / NAME
        if not path.is_file():
            raise FileNotFoundError(f"no finished search in {folder}: {path} does not exist")
        return replace(read_record(path, cls), output=str(folder))


def _lead(first: str, second: str, margin: float) -> str:
    """By how much the first is ahead of the second, in words; "level" if the margin would be printed as zero."""
    if round(margin, 4) == 0:
        return f"{first} and {second} are level to 0.0001 in weight"
    return f"{first} is ahead of {second} by {margin:.4f} in weight"


def stable_since(genotypes: list[str]) -> int:
    """The first epoch, counted from 1, from which on the genotype is the same as in the last epoch."""
    epoch = len(genotypes)
    while epoch > 1 and genotypes[epoch - 2] == genotypes[-1]:
        epoch -= 1
    return epoch
