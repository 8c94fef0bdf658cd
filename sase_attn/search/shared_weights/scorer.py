"""`Scorer`: the accuracy of sub-networks of a trained super-network, with its shared weights."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sase_attn.files import naming, read_json_lines, write_atomically
from sase_attn.genotype import Genotype
from sase_attn.lock import one_writer
from sase_attn.records import record_from
from sase_attn.search.shared_weights.bilevel import Batch
from sase_attn.search.shared_weights.restore import restored
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import Architecture
from sase_attn.training.evaluate import Metrics, evaluate

Batches = Sequence[Batch]


@dataclass(frozen=True)
class _Score:
    """A line of a file of scores, and on how many images norms were fitted and accuracy was measured."""

    genotype: str
    top1: float
    loss: float
    fit_images: int | None = None
    val_images: int | None = None


@dataclass(frozen=True)
class Scored:
    """A genotype, with the accuracy in percent and the loss of its sub-network, without retraining."""

    genotype: Genotype
    top1: float
    loss: float


class Scorer:
    """Accuracy and loss of sub-networks with the shared weights, and with batch-norm statistics measured anew.

    Args:
        model: a trained super-network; it is left as it was.
        architecture: the architecture of its blocks.
        space: the space of its genotypes.
        fit: batches over which running statistics are averaged, in train mode.
        val: batches on which accuracy is measured, in eval mode; not those that trained the weights.
    """

    def __init__(
        self, model: nn.Module, architecture: Architecture, space: SearchSpace, *, fit: Batches, val: Batches
    ) -> None:
        self.model, self.architecture, self.space = model, architecture, space
        device = next(model.parameters()).device
        self._fit, self._val = ([(x.to(device), y.to(device)) for x, y in batches] for batches in (fit, val))
        self._images = {
            name: sum(len(targets) for _, targets in batches)
            for name, batches in (("fit_images", self._fit), ("val_images", self._val))
        }

    def mixture(self) -> Metrics:
        """Accuracy of the super-network with its mixtures; within `Architecture.only`, with those that it allows."""
        with recalibrated(self.model, self._fit):
            return evaluate(self.model, self._val)

    def score(self, genotype: Genotype) -> Scored:
        """A genotype with the accuracy of its sub-network. Raises ValueError if it is not in the space."""
        with self.architecture.choose(self.space.columns(genotype)):
            found = self.mixture()
        return Scored(genotype, found.top1, found.loss)

    def score_all(
        self,
        genotypes: Iterable[Genotype],
        path: str | os.PathLike[str],
        echo: Callable[[int], object] = lambda count: None,
    ) -> list[Scored]:
        """Score many genotypes, and return all scores of the file, including earlier ones, the lowest loss first.

        They are ranked by loss because it is finer: accuracies on a few thousand images have ties. Scores that the file
        has by other numbers of images do not count.

        Args:
            genotypes: the genotypes; a `SearchSpace` stands for all of its own.
            path: a file to which a line of JSON is written for each, so that scoring can continue after an
                interruption. Delete it when the super-network has changed.
            echo: called after each genotype with the number of those done.

        Raises:
            InUseError: another process scores to this file. ValueError: a line of it is not a score.
        """
        path = Path(path)
        with one_writer(path), naming(path):
            done = read_scores(path, self._images)
            with open(path, "a", encoding="utf-8") as file:
                for genotype in genotypes:
                    if str(genotype) not in done:
                        scored = self.score(genotype)
                        done[str(genotype)] = scored
                        line = {"genotype": str(genotype), "top1": scored.top1, "loss": scored.loss}
                        file.write(json.dumps(line | self._images) + "\n")
                        file.flush()
                        echo(len(done))
        return sorted(done.values(), key=lambda scored: scored.loss)


def read_scores(path: Path, images: Mapping[str, int] | None = None) -> dict[str, Scored]:
    """The scores in a file, by genotype as a string; a last line that was cut off is dropped from the file.

    Args:
        path: the file.
        images: only scores by these numbers of images, `fit_images` and `val_images`; by default all.

    Raises:
        ValueError: a line is not a score; the message names file and line.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, whole)
    rows = read_json_lines(path, lambda value: record_from(_Score, value))
    return {
        row.genotype: Scored(Genotype.parse(row.genotype), row.top1, row.loss)
        for row in rows
        if images is None or all(getattr(row, name) == count for name, count in images.items())
    }


@contextmanager
def recalibrated(model: nn.Module, batches: Batches) -> Iterator[None]:
    """A context in which running statistics of batch norms are the averages over these batches.

    Inside, modules are in train mode; after it, modes, momenta and statistics are what they were.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    with restored(buffer for norm in norms for buffer in norm.buffers()):
        try:
            model.train()
            for norm in norms:
                norm.reset_running_stats()
            with torch.no_grad():
                for count, (images, _) in enumerate(batches, start=1):
                    for norm in norms:
                        norm.momentum = 1 / count  # the average of all batches so far
                    model(images)
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            for module, mode in modes:
                module.training = mode
