"""The bilevel step of differentiable search: a step of alpha on one batch, then a step of the weights on another.

DARTS (arXiv 1806.09055), as the SASE release runs it: with w' = w − ξ(μ·buf + ∇L_train(w, α) + λw), the virtual step of
SGD with momentum μ and weight decay λ at the current learning rate ξ,

    dα = ∇_α L_val(w', α) − ξ ∇²_{α,w} L_train(w, α) · v,   v = ∇_{w'} L_val(w', α)

is exact for that optimizer without gradient clipping. The last term is a finite difference at w ± εv, ε = r/‖v‖, as in
the paper, or, `hvp="exact"`, the derivative itself. The difference crosses kinks of ReLUs and maxima: see `hvp`. The
first order leaves the term out and takes w' = w.

Running statistics are updated once in a step, by the forward pass of the weights' own step. In the release the virtual
passes update them too, four times in all. In the release's second order the last stage takes no virtual step, which is
a fault: the network has a second name for that stage, and the copy with w' loads the old weights by that name.
`unmoved` reproduces it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sase_attn.errors import unknown_name
from sase_attn.modules import matching
from sase_attn.search.config import HVP
from sase_attn.search.shared_weights.hvp import exact, finite_difference
from sase_attn.search.shared_weights.restore import restored
from sase_attn.search.shared_weights.virtual_step import check_sgd, sgd_settings, virtual_step

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) and their classes (B,)."""


@dataclass(frozen=True)
class StepReport:
    """One bilevel step: losses of both batches, norms of the gradients, and how the second order term compares."""

    train_loss: float
    val_loss: float
    weight_grad_norm: float
    alpha_grad_norm: float
    second_order_norm: float
    second_order_cosine: float


class DivergedError(FloatingPointError):
    """A loss or a gradient with which a search cannot continue; the message says which, and where it comes from."""


class Bilevel:
    """Steps of alpha and of the weights of a network.

    Args:
        model: a network with `alpha` among its parameters; its other parameters that require gradients are the weights.
        alpha: the parameter that is trained on the validation batch.
        optimizer: `torch.optim.SGD` over the weights, or one that computes the same: the virtual step reads its
            learning rate, momentum buffers and weight decay.
        alpha_optimizer: the optimizer of alpha.
        criterion: the loss, as a function of (logits, targets).
        order: 1 or 2.
        hvp: how the second order is computed: "exact", or "fd" by a finite difference.
        radius: r of the finite difference.
        unmoved: patterns of modules whose weights take no virtual step, as the last stage in the released code, see
            `virtual_step`; the gradient of alpha is then no longer that of the loss after a step.
        clip_grad: largest norm of the weights' gradient in their own step.
        max_loss: a loss above this counts as diverged.
        penalty: a function of alpha alone, which is added to the validation loss.
        explain: called with the model and a function that computes the loss; says where a value that is not finite
            comes from.
        reduce: averages tensors over the processes of a distributed run, in place; called on the virtual gradient, on
            v with dα, on the second order term, and on the weights' gradient, so that all processes do the same.

    Raises:
        ValueError: the order is neither 1 nor 2, alpha is no parameter of the model, or for the second order the
            optimizer uses Nesterov's step, dampening, or maximizes.
        UnknownNameError: no such `hvp`, or a pattern of `unmoved` that no module matches.
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: nn.Parameter,
        optimizer: torch.optim.Optimizer,
        alpha_optimizer: torch.optim.Optimizer,
        *,
        criterion: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        order: int = 2,
        hvp: str = "exact",
        radius: float = 1e-2,
        unmoved: Sequence[str] = (),
        clip_grad: float | None = 5.0,
        max_loss: float = math.inf,
        penalty: Callable[[], Tensor] | None = None,
        explain: Callable[[nn.Module, Callable[[], Tensor]], str | None] | None = None,
        reduce: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
    ) -> None:
        if order not in (1, 2):
            raise ValueError(f"order: wanted 1 or 2, got {order!r}")
        if hvp not in HVP:
            raise unknown_name("hvp", hvp, HVP)
        names = {parameter: name for name, parameter in model.named_parameters()}
        if alpha not in names:
            raise ValueError("alpha is not a parameter of the model")
        if order == 2:
            check_sgd(optimizer)
        self.model, self.alpha, self.alpha_name = model, alpha, names[alpha]
        self.optimizer, self.alpha_optimizer, self.criterion = optimizer, alpha_optimizer, criterion
        self.max_loss, self.penalty, self.explain = max_loss, penalty, explain
        self.order, self.hvp, self.radius, self.clip_grad, self.reduce = order, hvp, radius, clip_grad, reduce
        self.weight_names = [names[p] for p in names if p is not alpha and p.requires_grad]
        self.weights: list[Tensor] = [p for p in names if p is not alpha and p.requires_grad]
        sgd_settings(optimizer, self.weight_names, self.weights)
        modules = matching(dict(model.named_modules()), unmoved)
        self._unmoved = {parameter for name in modules for parameter in model.get_submodule(name).parameters()}

    def step(self, train: Batch, val: Batch) -> StepReport:
        """A step of alpha on `val`, then one of the weights on `train`, in train mode.

        Raises:
            DivergedError: a loss or a gradient is not finite, or a loss above `max_loss`; nothing has then been changed
                by the step that it belongs to.
        """
        first, second, val_loss = self.alpha_step(train, val)
        train_loss, weight_grad_norm = self.weight_step(train)
        scale = (first.norm() * second.norm()).item()
        return StepReport(
            train_loss=train_loss,
            val_loss=val_loss,
            weight_grad_norm=weight_grad_norm,
            alpha_grad_norm=(first - second).norm().item(),
            second_order_norm=second.norm().item(),
            second_order_cosine=-(first * second).sum().item() / scale if scale else 0.0,
        )

    def alpha_step(self, train: Batch, val: Batch) -> tuple[Tensor, Tensor, float]:
        """A step of alpha. Returns the first order term of its gradient, the second order one, and the loss."""
        gradient, second, loss = self.alpha_gradient(train, val)
        self.alpha.grad = gradient
        if self.penalty is not None:
            self.alpha.grad = gradient + torch.autograd.grad(self.penalty(), [self.alpha])[0]
        self.alpha_optimizer.step()
        self.alpha.grad = None
        return gradient + second, second, loss

    def weight_step(self, train: Batch) -> tuple[float, float]:
        """A step of the weights. Returns the loss before it and the norm of its gradient."""
        loss = self._loss(train)
        value = self._checked(loss, train)
        grads = torch.autograd.grad(loss, self.weights, allow_unused=True)
        present = [(w, g) for w, g in zip(self.weights, grads, strict=True) if g is not None]
        self.reduce([g for _, g in present])
        for weight, g in present:
            weight.grad = g
        norm = nn.utils.clip_grad_norm_(self.weights, self.clip_grad if self.clip_grad is not None else float("inf"))
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise self._diverged("the weights' gradient is not finite", train)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value, norm.item()

    def alpha_gradient(self, train: Batch, val: Batch) -> tuple[Tensor, Tensor, float]:
        """dα, the second order term that was subtracted in it (0 for the first order), and the validation loss.

        Weights and buffers are what they were before, to the bit.
        """
        with restored(self.model.buffers()):
            if self.order == 1:
                loss = self._loss(val)
                value = self._checked(loss, val)
                (first,) = torch.autograd.grad(loss, [self.alpha])
                self.reduce([first])
                return self._finite(first, val), torch.zeros_like(first), value
            with restored(self.weights):
                rates = self._virtual_step(train)
                loss = self._loss(val)
                value = self._checked(loss, val)
                first, *v = self._gradients(loss, [self.alpha, *self.weights])
                self.reduce([first, *v])
                self._finite(first, val)
            # ξ differs between parameter groups, so it is part of the direction.
            direction = torch._foreach_mul(v, rates)
            second = self._second_order(train, direction)
            self.reduce([second])
            return first - self._finite(second, train), second, value

    def _checked(self, loss: Tensor, batch: Batch) -> float:
        """The value of a loss. Raises DivergedError if it is not finite, or above `max_loss`."""
        value = loss.item()
        if not abs(value) <= self.max_loss:
            raise self._diverged(f"the loss is {value:.6g}", batch)
        return value

    def _finite(self, gradient: Tensor, batch: Batch) -> Tensor:
        if not bool(gradient.isfinite().all()):
            raise self._diverged("the gradient of alpha is not finite", batch)
        return gradient

    def _diverged(self, what: str, batch: Batch) -> "DivergedError":
        """The error to raise. Call it while the weights are still those of the loss."""
        source = None if self.explain is None else self.explain(self.model, lambda: self._loss(batch))
        return DivergedError(f"{what}{f'; it comes from {source}' if source else ''}")

    def _virtual_step(self, train: Batch) -> list[float]:
        """Move the weights to w', and return the learning rate ξ of each."""
        loss = self._loss(train)
        self._checked(loss, train)
        grads = self._gradients(loss, self.weights)
        self.reduce(grads)
        settings = sgd_settings(self.optimizer, self.weight_names, self.weights)
        moved = [(w, g) for w, g in zip(self.weights, grads, strict=True) if w not in self._unmoved]
        virtual_step(self.optimizer, settings, [w for w, _ in moved], [g for _, g in moved])
        return [float(settings[weight]["lr"]) for weight in self.weights]

    def _second_order(self, train: Batch, direction: Sequence[Tensor]) -> Tensor:
        """∇²_{α,w} L_train · direction."""
        if self.hvp == "fd":
            return finite_difference(lambda: self._loss(train), self.alpha, self.weights, direction, radius=self.radius)
        return exact(self.model, lambda: self._loss(train), self.alpha, self.weights, direction)

    def _loss(self, batch: Batch) -> Tensor:
        images, targets = batch
        return self.criterion(self.model(images), targets)

    def _gradients(self, loss: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
        """Gradients, zeros where the loss does not depend on a tensor."""
        return list(torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True))
