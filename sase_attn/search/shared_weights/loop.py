"""`Searcher`: the training loop of a search by shared weights, with bilevel steps of a super-network and its alpha."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from sase_attn.quoting import command
from sase_attn.search.config import SearchConfig
from sase_attn.search.shared_weights.bilevel import Batch, Bilevel, DivergedError
from sase_attn.search.shared_weights.checkpoint import SearchProgress
from sase_attn.search.shared_weights.curvature import has_grown, largest_eigenvalue
from sase_attn.search.shared_weights.diagnose import diagnose
from sase_attn.search.shared_weights.halves import SearchData, sample_batches
from sase_attn.search.shared_weights.network import architecture_of, prepare
from sase_attn.search.shared_weights.op_scales import op_scales
from sase_attn.search.shared_weights.optimizers import create_optimizers
from sase_attn.search.shared_weights.penalty import penalty
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import Architecture, mean_entropy
from sase_attn.training.checkpoint import fitting_network
from sase_attn.training.data import Loader
from sase_attn.training.distributed import Ranks
from sase_attn.training.pace import pace_text
from sase_attn.training.resumable import ResumableLoop, StepReport


class Searcher(ResumableLoop[SearchConfig, SearchProgress, tuple[Batch, ...]]):
    """One search by the gradient of alpha. `run` trains the super-network `model` in place.

    Args:
        config: the configuration.
        model: a network with super-network blocks.
        data: the batches, see `SearchData`.
        folder: the folder for `config.json`, `log.jsonl` and `checkpoint.pt`.
        ranks: the processes of the run.
        echo: called with each line of progress.
        space: the space of the blocks, if it is not the configuration's.
    """

    SETTINGS_NAME = "config"
    RATES = "lr, alpha_lr or clip_grad"  # the settings that an error advises to lower after a divergence

    def __init__(
        self,
        config: SearchConfig,
        model: nn.Module,
        data: SearchData,
        folder: Path,
        ranks: Ranks,
        echo: Callable[[str], object] = print,
        space: SearchSpace | None = None,
    ) -> None:
        ranks.check_batch_size(config.batch_size)
        super().__init__(
            config, folder, ranks, echo, SearchProgress(), data=data.info.identity, steps_per_epoch=data.weights.batches
        )
        self.data = data
        self.space = space or config.search_space()
        self.architecture: Architecture = architecture_of(model, self.space)
        prepare(model, self.architecture, config)
        self.model = model.to(ranks.device).train()
        alpha = self.architecture.alpha
        self.optimizer, self.alpha_optimizer = create_optimizers(config, model, alpha)
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer, sched="cosine", num_epochs=config.epochs, min_lr=config.min_lr, warmup_epochs=0
        )
        self.bilevel = Bilevel(
            model,
            alpha,
            self.optimizer,
            self.alpha_optimizer,
            order=config.order,
            hvp=config.hvp,
            radius=config.radius,
            unmoved=config.unmoved,
            clip_grad=config.clip_grad,
            max_loss=config.max_loss,
            penalty=self._penalty if config.beta or config.entropy else None,
            explain=diagnose,
            reduce=ranks.mean,
        )

    @property
    def genotype(self) -> str:
        """The genotype of the largest weight on each edge, as a string."""
        return str(self.space.genotype(self.architecture.argmax()))

    @property
    def lr(self) -> float:
        """The learning rate of the weights in the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the curvature stopped the search."""
        return super().is_finished or self.progress.stopped

    @property
    def resume_command(self) -> str:
        """The command that continues the search after an interruption."""
        return command("search", "--resume", self.folder)

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        """Pairs of a batch for the weights and one for alpha; sets the learning rate of the epoch."""
        return zip(self.weight_batches(), self.alpha_batches(), strict=False)

    def update(self, train: Batch, *val: Batch) -> dict[str, Any]:
        """Train the weights, after the warm-up also alpha; return what to log. Raises DivergedError."""
        if self.progress.epoch < self.settings.warmup_epochs:
            loss, norm = self.bilevel.weight_step(train)
            return {"train_loss": loss, "weight_grad_norm": norm, "alpha": self.architecture.alpha.tolist()}
        return asdict(self.bilevel.step(train, *val)) | {"alpha": self.architecture.alpha.tolist()}

    def step(self, batch: tuple[Batch, ...]) -> StepReport:
        """An `update` by the batches of a step. Raises DivergedError, which says where and what to do."""
        progress, ranks = self.progress, self.ranks
        train, *val = (self.place(images) for images in batch)
        ranks.seed_step(self.settings.seed, self.global_step)
        start = time.perf_counter()
        try:
            values = self.update(train, *val)
        except DivergedError as error:
            raise DivergedError(
                f"{error}; epoch {progress.epoch + 1}, step {progress.step + 1}; try a lower {self.RATES}"
                f"; the checkpoint in {self.folder} is from before"
            ) from None
        train_loss, val_loss, stops = ranks.sum(
            values["train_loss"], values.get("val_loss", 0.0), float(self.interrupt.asked)
        )
        values["train_loss"] = train_loss / ranks.world_size
        progress.train_loss += values["train_loss"]
        if "val_loss" in values:  # not in the warm-up
            values["val_loss"] = val_loss / ranks.world_size
            progress.val_loss += values["val_loss"]
        progress.count += 1
        values["step_seconds"] = round(time.perf_counter() - start, 4)
        return StepReport(len(train[1]) * ranks.world_size, bool(stops), values)

    def weight_batches(self) -> Iterator[Batch]:
        """The rest of this epoch's batches for the weights; sets the learning rate of the epoch."""
        self.scheduler.step(self.progress.epoch)
        return iter(self.data.weights.epoch(self.progress.epoch, start=self.progress.step))

    def alpha_batches(self) -> Iterator[Batch]:
        """Batches for alpha from the current step on: epoch after epoch, or drawn afresh by `val_order="fresh"`."""
        step = self.global_step
        while self.settings.val_order == "fresh":
            yield next(iter(self.data.alpha.epoch(step)))
            step += 1
        epoch, place = divmod(step, self.data.alpha.batches)
        while True:
            yield from self.data.alpha.epoch(epoch, start=place)
            epoch, place = epoch + 1, 0

    def end_epoch(self) -> None:
        """Record the genotype, measure curvature and output scales on the first batch for alpha, and perhaps stop."""
        progress, architecture, config = self.progress, self.architecture, self.settings
        progress.genotypes.append(self.genotype)
        images, targets = self.place(next(iter(self.data.alpha.epoch(0))))
        if config.curvature:
            value = largest_eigenvalue(
                lambda: self._alpha_gradient((images, targets)),
                architecture.alpha,
                architecture.mask,
                iterations=config.curvature,
            )
            progress.curvatures.append(value)
        trained_alpha = progress.epoch >= config.warmup_epochs
        row = self.write(
            "epoch",
            train_loss=progress.train_loss / progress.count,
            val_loss=progress.val_loss / progress.count if trained_alpha else None,
            alpha=architecture.alpha.tolist(),
            weights=architecture.weights().tolist(),
            entropy=architecture.entropy().tolist(),
            margin=architecture.margin().tolist(),
            genotype=progress.genotypes[-1],
            curvature=progress.curvatures[-1] if progress.curvatures else None,
            scales=op_scales(self.model, images),
        )
        names = zip(self.space.ops.values(), architecture.argmax(), strict=True)
        val_loss = f"val loss {row['val_loss']:.4f}" if trained_alpha else "warm-up"
        self.echo(
            f"epoch {progress.epoch + 1}/{config.epochs}  loss {row['train_loss']:.4f}  "
            f"{val_loss}  entropy {mean_entropy(row['entropy'], architecture.columns):.3f}  "
            f"{' '.join(ops[column] for ops, column in names)}  {pace_text(row)}"
        )
        if config.stop_ratio is not None and has_grown(progress.curvatures, config.stop_ratio):
            progress.stopped = True
            self.echo(f"stopped: the curvature of alpha has grown by more than 1 / {config.stop_ratio}")

    def sample(self, loader: Loader) -> list[Batch]:
        """The first batches of a loader, of `select_images` or a few more, for rank 0 to score with."""
        return [self.place(batch) for batch in sample_batches(loader, self.settings.select_images)]

    def tune(self) -> None:
        """Train the weights for `tune_epochs` at the last learning rate, with fixed alpha, on this rank's images."""
        self.model.train()
        reduce, self.bilevel.reduce = self.bilevel.reduce, lambda tensors: None
        for epoch in range(self.settings.tune_epochs):
            for batch in self.data.weights.epoch(self.settings.epochs + epoch):
                self.bilevel.weight_step(self.place(batch))
        self.bilevel.reduce = reduce

    def _alpha_gradient(self, batch: Batch) -> Tensor:
        first = Bilevel(
            self.model, self.architecture.alpha, self.optimizer, self.alpha_optimizer, order=1, reduce=self.ranks.mean
        )
        return first.alpha_gradient(batch, batch)[0]

    def _penalty(self) -> Tensor:
        """The penalties on alpha, whose strengths grow linearly from 0 to those of the settings."""
        grown = self.progress.epoch / max(1, self.settings.epochs - 1)
        return penalty(self.architecture, beta=grown * self.settings.beta, entropy=grown * self.settings.entropy)

    def place(self, batch: Batch) -> Batch:
        """A batch on the device, in the memory layout of the network."""
        images, targets = batch
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        device = self.ranks.device
        return images.to(device, memory_format=layout, non_blocking=True), targets.to(device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """The state of the super-network, alpha included, and of both optimizers."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint. Raises ValueError if it belongs to another network."""
        with fitting_network():
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
