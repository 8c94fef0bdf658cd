"""`Workers`: read a data set batch by batch, by processes that stay from one epoch to the next."""

import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset


class _Plan:
    """The batch sampler of a DataLoader, whose keys can be replaced before each epoch."""

    def __init__(self) -> None:
        self.batches: Callable[[], Iterator[list[Any]]] = lambda: iter(())

    def __iter__(self) -> Iterator[list[Any]]:
        return self.batches()


class Workers:
    """Batches of a data set, for keys that may differ from one call of `serve` to the next.

    Processes stay from one call to the next; a call that begins before another has ended gets its own.

    Args:
        samples: the data set, which is indexed by a key.
        collate: makes a batch from a list of samples.
        count: the number of processes; 0 reads in this one.
    """

    def __init__(self, samples: Dataset[Any], collate: Callable[[list[Any]], Any], count: int) -> None:
        self._samples, self._collate, self._count = samples, collate, count
        self._kept: tuple[_Plan, DataLoader[Any]] | None = None
        self._kept_are_busy = False

    def serve(self, batches: Callable[[], Iterator[list[Any]]]) -> Iterator[Any]:
        """The batch of each list of keys, in order.

        `batches` must not refer to the owner of this object: processes should end with their last user, and not when
        reference cycles are collected, which is too late at the end of a program.
        """
        if self._kept_are_busy:
            yield from self._serve(*self._create(keep=False), batches)
            return
        self._kept = self._kept or self._create(keep=self._count > 0)
        self._kept_are_busy = True
        try:
            yield from self._serve(*self._kept, batches)
        finally:
            self._kept_are_busy = False

    def _create(self, *, keep: bool) -> tuple[_Plan, DataLoader[Any]]:
        plan = _Plan()
        loader = DataLoader(
            self._samples,
            batch_sampler=cast(Any, plan),
            num_workers=self._count,
            collate_fn=self._collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
            persistent_workers=keep,
            worker_init_fn=_leave_signals_to_parent,
        )
        return plan, loader

    def _serve(self, plan: _Plan, loader: DataLoader[Any], batches: Callable[[], Iterator[list[Any]]]) -> Iterator[Any]:
        plan.batches = batches
        yield from loader


def _leave_signals_to_parent(worker: int) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes. torch handles SIGTERM, so that a worker ends cleanly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
