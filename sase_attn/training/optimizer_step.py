"""`OptimizerStep`: the part of a training step that all trainings share, except for the forward pass and the loss."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from timm.utils import dispatch_clip_grad
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sase_attn.training.checkpoint import fitting_network
from sase_attn.training.distributed import Ranks
from sase_attn.training.precision import autocast
from sase_attn.weights.genotypes import KEY as GENOTYPE
from sase_attn.weights.genotypes import check_record, record_of


class StepSettings(Protocol):
    """The fields of a recipe that a step reads."""

    @property
    def amp(self) -> str:
        """Type of the forward pass: "none", "bfloat16" or "float16"."""
        ...

    @property
    def clip_grad(self) -> float | None:
        """The largest norm of the gradient, if there is one."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the random numbers of each step."""
        ...


class OptimizerStep:
    """Seeding, learning rate, precision, gradient and update of a network on all ranks, and their saved state.

    A step is `begin`, then a forward pass of `parallel` under `autocast`, then `update` with its loss.

    Args:
        settings: the settings amp, clip_grad and seed.
        model: a network on the device of `ranks`, in which parameters that are not trained are frozen.
        ranks: the processes of the run.
        optimizer: the optimizer over the parameters of the model.
        set_lr: sets the optimizer's learning rate for a step, counted from 0; None if it is constant.
        some_unused: whether a step may leave parameters without a gradient, which DistributedDataParallel must know.
    """

    def __init__(
        self,
        settings: StepSettings,
        model: nn.Module,
        ranks: Ranks,
        optimizer: torch.optim.Optimizer,
        set_lr: Callable[[int], object] | None,
        *,
        some_unused: bool = False,
    ) -> None:
        self.settings, self.model, self.ranks, self.optimizer = settings, model, ranks, optimizer
        self.updates = 0
        self._set_lr = set_lr
        cuda = ranks.device.type == "cuda"
        self._scaler = torch.amp.GradScaler("cuda", enabled=cuda and settings.amp == "float16")
        self.parallel: nn.Module = model
        if ranks.world_size > 1:
            devices = [ranks.device] if cuda else None
            self.parallel = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=some_unused)

    @property
    def lr(self) -> float:
        """The largest learning rate of the last step."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def begin(self) -> None:
        """Seed the random numbers of the step, and set its learning rate."""
        self.ranks.seed_step(self.settings.seed, self.updates)
        if self._set_lr is not None:
            self._set_lr(self.updates)

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        return autocast(self.settings.amp, self.ranks.device)

    def update(self, loss: Tensor) -> None:
        """Change the weights by the gradient of a loss, which is the mean over the ranks."""
        self._scaler.scale(loss).backward()
        if self.settings.clip_grad is not None:
            self._scaler.unscale_(self.optimizer)
            dispatch_clip_grad(self.model.parameters(), self.settings.clip_grad)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step reads and changes, as tensors and numbers."""
        return {
            **record_of(self.model),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. Raises ValueError if it belongs to another network."""
        check_record(state.get(GENOTYPE), self.model, source="the checkpoint")
        with fitting_network():
            self.model.load_state_dict(state["model"])
            sizes = _group_sizes(state["optimizer"])
        if sizes != _group_sizes(self.optimizer.state_dict()):
            raise ValueError(
                "the checkpoint's parameter groups differ: it was begun by a version that decayed other weights; "
                "start a new run"
            )
        with fitting_network():
            self.optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self.updates = int(state["updates"])


def _group_sizes(optimizer: dict[str, Any]) -> list[int]:
    """How many parameters each group of an optimizer has, by its state."""
    return [len(group["params"]) for group in optimizer["param_groups"]]
