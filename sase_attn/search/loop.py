"""The search loop: epochs of bilevel steps, log, checkpoints; resumable bit for bit on CPU."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from sase_attn.files import write_atomically
from sase_attn.search.bilevel import Batch, Bilevel, DivergedError
from sase_attn.search.checkpoint import FREE, NAME, SearchProgress, load_search
from sase_attn.search.config import SearchConfig
from sase_attn.search.curvature import grown, largest_eigenvalue
from sase_attn.search.diagnose import diagnose
from sase_attn.search.halves import SearchData, sample_batches
from sase_attn.search.network import architecture_of, prepare
from sase_attn.search.op_scales import op_scales
from sase_attn.search.penalty import penalty
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import Architecture
from sase_attn.training import log
from sase_attn.training.checkpoint import check_same, write_checkpoint
from sase_attn.training.data.open import Loader
from sase_attn.training.distributed import Ranks
from sase_attn.training.interrupt import Interrupt


class Searcher:
    """One search, with what its parts share. `run` trains; the super-network is then in `model`.

    Args:
        config: how. `model`: a network with super-network blocks. `data`: see `SearchData`.
        folder: gets `config.json`, `log.jsonl` and `checkpoint.pt`.
        ranks: the processes of the run.
        echo: gets a line for each thing that people may want to read.
        space: of the blocks, if it is not the configuration's.
    """

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
        if config.batch_size % ranks.world_size:
            raise ValueError(f"batch_size: wanted a multiple of {ranks.world_size} processes, got {config.batch_size}")
        self.config, self.data, self.folder, self.ranks, self.echo = config, data, folder, ranks, echo
        self.space = space or config.search_space()
        self.architecture: Architecture = architecture_of(model, self.space)
        prepare(model, self.architecture, config)
        self.model = model.to(ranks.device).train()
        alpha = self.architecture.alpha
        weights = [p for p in model.parameters() if p is not alpha and p.requires_grad]
        self.optimizer = torch.optim.SGD(
            weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.alpha_optimizer = torch.optim.Adam(
            [alpha],
            lr=config.alpha_lr,
            betas=(config.alpha_betas[0], config.alpha_betas[1]),
            weight_decay=config.alpha_weight_decay,
        )
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
            clip_grad=config.clip_grad,
            max_loss=config.max_loss,
            penalty=self._penalty if config.beta or config.entropy else None,
            explain=diagnose,
            reduce=ranks.mean,
        )
        self.progress = SearchProgress()
        self._log: log.Log | None = None
        self._start = self._before = 0.0

    @property
    def genotype(self) -> str:
        """The genotype of the largest weight on each edge, as a string."""
        return str(self.space.genotype(self.architecture.argmax()))

    def run(self, *, resume: bool = False) -> None:
        """Search to the end, new or from the checkpoint in the folder.

        Raises:
            DivergedError: a loss or gradient that is no number; the checkpoint is from before.
            FileNotFoundError, ValueError: nothing to resume, or another configuration.
            KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was saved first.
        """
        if resume:
            self.load()
        progress, config = self.progress, self.config
        self._start, self._before = time.perf_counter(), progress.seconds
        done = progress.epoch * self.data.weights.batches + progress.step
        self._pace = log.Pace(self.ranks.device, config.epochs * self.data.weights.batches - done)
        if self.ranks.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "config.json", config.to_json() + "\n")
            self._log = log.Log(self.folder, progress.log_bytes)
        try:
            if not resume:
                self.save()
            with Interrupt() as interrupt:
                while progress.epoch < config.epochs and not progress.stopped:
                    self._epoch(interrupt)
        finally:
            if self._log is not None:
                self._log.close()

    def _epoch(self, interrupt: Interrupt) -> None:
        """The rest of an epoch, and the checkpoint at its end."""
        progress, config, total = self.progress, self.config, self.data.weights.batches
        self.scheduler.step(progress.epoch)
        batches = log.progress_bar(
            zip(self.data.weights.epoch(progress.epoch, start=progress.step), self.val_batches(), strict=False),
            total=total,
            start=progress.step,
            title=f"epoch {progress.epoch + 1}/{config.epochs}",
            show=self.ranks.is_main,
        )
        for train, val in batches:
            self._step(self._placed(train), self._placed(val))
            (stop,) = self.ranks.sum(interrupt.asked)
            if stop:
                self.save()
                self._interrupted()
        if progress.step != total:
            raise ValueError(f"the data gave {progress.step} batches in an epoch; wanted {total}")
        row = self._epoch_row()
        self._write("epoch", **row)
        self.echo(self._line(row))
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.train_loss, progress.val_loss, progress.count = 0.0, 0.0, 0
        if config.stop_ratio is not None and grown(progress.curvatures, config.stop_ratio):
            progress.stopped = True
            self.echo(f"stopped: the curvature of alpha has grown by more than 1 / {config.stop_ratio}")
        self.save()
        if self.ranks.sum(interrupt.asked)[0] and progress.epoch < config.epochs and not progress.stopped:
            self._interrupted()

    def _step(self, train: Batch, val: Batch) -> None:
        progress, config = self.progress, self.config
        step = progress.epoch * self.data.weights.batches + progress.step
        # What dropout draws is a function of the step, so that a resumed search draws the same.
        torch.manual_seed(config.seed * 1_000_003 + step * self.ranks.world_size + self.ranks.rank)
        start = time.perf_counter()
        try:
            if progress.epoch < config.warmup_epochs:
                loss, norm = self.bilevel.weight_step(train)
                report = {"train_loss": loss, "weight_grad_norm": norm}
            else:
                report = asdict(self.bilevel.step(train, val))
        except DivergedError as error:
            raise DivergedError(
                f"{error}; epoch {progress.epoch + 1}, step {progress.step + 1}; try a lower lr, alpha_lr or clip_grad"
                f"; the checkpoint in {self.folder} is from before"
            ) from None
        progress.step += 1
        losses = self.ranks.sum(report["train_loss"], report.get("val_loss", 0.0))
        report |= dict(zip(("train_loss", "val_loss"), (loss / self.ranks.world_size for loss in losses), strict=True))
        progress.train_loss += report["train_loss"]
        progress.val_loss += report["val_loss"]
        progress.count += 1
        self._pace.step(len(train[1]) * self.ranks.world_size)
        if config.log_every and progress.step % config.log_every == 0:
            alpha = self.architecture.alpha.tolist()
            self._write("step", **report, alpha=alpha, step_seconds=round(time.perf_counter() - start, 4))

    def val_batches(self) -> Iterator[Batch]:
        """Batches for alpha from the current step on: epoch after epoch, or each the first of an epoch of its own."""
        step = self.progress.epoch * self.data.weights.batches + self.progress.step
        while self.config.val_order == "fresh":
            yield next(iter(self.data.alpha.epoch(step)))
            step += 1
        epoch, place = divmod(step, self.data.alpha.batches)
        while True:
            yield from self.data.alpha.epoch(epoch, start=place)
            epoch, place = epoch + 1, 0

    def _epoch_row(self) -> dict[str, Any]:
        """What an epoch is judged by; measured on the first batch for alpha."""
        progress, architecture = self.progress, self.architecture
        progress.genotypes.append(self.genotype)
        images, targets = self._placed(next(iter(self.data.alpha.epoch(0))))
        if self.config.curvature:
            value = largest_eigenvalue(
                lambda: self._alpha_gradient((images, targets)),
                architecture.alpha,
                architecture.mask,
                iterations=self.config.curvature,
            )
            progress.curvatures.append(value)
        return {
            "train_loss": progress.train_loss / progress.count,
            "val_loss": progress.val_loss / progress.count,
            "alpha": architecture.alpha.tolist(),
            "weights": architecture.weights().tolist(),
            "entropy": architecture.entropy().tolist(),
            "margin": architecture.margin().tolist(),
            "genotype": progress.genotypes[-1],
            "curvature": progress.curvatures[-1] if progress.curvatures else None,
            "scales": op_scales(self.model, images),
        }

    def sample(self, loader: Loader) -> list[Batch]:
        """The first batches of a loader, of `select_images` or a few more, for rank 0 to score with."""
        return [self._placed(batch) for batch in sample_batches(loader, self.config.select_images)]

    def tune(self) -> None:
        """Train the weights for `tune_epochs` at the last learning rate, alpha fixed, on this rank's images alone."""
        self.model.train()
        reduce, self.bilevel.reduce = self.bilevel.reduce, lambda tensors: None
        for epoch in range(self.config.tune_epochs):
            for batch in self.data.weights.epoch(self.config.epochs + epoch):
                self.bilevel.weight_step(self._placed(batch))
        self.bilevel.reduce = reduce

    def _alpha_gradient(self, batch: Batch) -> Tensor:
        first = Bilevel(
            self.model, self.architecture.alpha, self.optimizer, self.alpha_optimizer, order=1, reduce=self.ranks.mean
        )
        return first.alpha_gradient(batch, batch)[0]

    def _penalty(self) -> Tensor:
        share = self.progress.epoch / max(1, self.config.epochs - 1)
        return penalty(self.architecture, beta=share * self.config.beta, entropy=share * self.config.entropy)

    def _placed(self, batch: Batch) -> Batch:
        images, targets = batch
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        device = self.ranks.device
        return images.to(device, memory_format=layout, non_blocking=True), targets.to(device, non_blocking=True)

    def _write(self, kind: str, **values: Any) -> None:
        if self._log is not None:
            place = {"kind": kind, "epoch": self.progress.epoch, "step": self.progress.step}
            lr = float(self.optimizer.param_groups[0]["lr"])
            self._log.write(**place, lr=lr, **values, **self._pace.report(), seconds=round(self._seconds(), 2))

    def _line(self, row: dict[str, Any]) -> str:
        pace = self._pace.report()
        minutes, seconds = divmod(round(pace["eta_seconds"]), 60)
        entropy = sum(row["entropy"]) / len(row["entropy"])
        names = zip(self.space.ops.values(), self.architecture.argmax(), strict=True)
        return (
            f"epoch {self.progress.epoch + 1}/{self.config.epochs}  loss {row['train_loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  entropy {entropy:.3f}  {' '.join(ops[column] for ops, column in names)}  "
            f"{pace['images_per_second']:.0f} images/s  {pace['peak_memory_mb']:.0f} MiB  left {minutes}:{seconds:02d}"
        )

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def _interrupted(self) -> None:
        self.echo(f"stopped at epoch {self.progress.epoch + 1}, step {self.progress.step}, and saved; go on with")
        self.echo(f"sase-attn search --resume {self.folder}")
        raise KeyboardInterrupt

    def save(self) -> None:
        """Replace the checkpoint; the log is on disk first."""
        if self._log is None:
            return
        self.progress.log_bytes, self.progress.seconds = self._log.sync(), self._seconds()
        content = {
            "config": self.config.to_json(),
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
        }
        write_checkpoint(self.folder / NAME, content)

    def load(self) -> None:
        """Take everything from the checkpoint in the folder."""
        saved, progress, content = load_search(self.folder)
        check_same(self.config, saved, FREE)
        try:
            self.model.load_state_dict(content["model"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint does not fit the network: {' '.join(str(error).split())[:300]}") from None
        self.optimizer.load_state_dict(content["optimizer"])
        self.alpha_optimizer.load_state_dict(content["alpha_optimizer"])
        self.progress = progress
        if progress.epoch < self.config.epochs and not progress.stopped:
            self.echo(f"resuming at epoch {progress.epoch + 1}, step {progress.step}")
