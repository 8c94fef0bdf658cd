"""`Workers`: a data set read batch by batch, by processes that stay from one epoch to the next if so wished."""

import signal
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset


class _Plan:
    """The batch sampler of a DataLoader: the keys of the batches that were asked for last."""

    def __init__(self) -> None:
        self.batches: Callable[[], Iterator[list[Any]]] = lambda: iter(())

    def __iter__(self) -> Iterator[list[Any]]:
        return self.batches()


class Workers:
    """Batches of a data set, whose keys are asked for anew each time.

    Processes stay from one serving to the next; one that begins before another has ended gets some of its own.

    Args:
        samples: the data set, which takes a key.
        collate: a batch of a list of samples.
        count: processes; 0 reads in this one.
    """

    def __init__(self, samples: Dataset[Any], collate: Callable[[list[Any]], Any], count: int) -> None:
        self._samples, self._collate, self._count = samples, collate, count
        self._kept: tuple[_Plan, DataLoader[Any]] | None = None
        self._kept_are_busy = False

    def serve(self, batches: Callable[[], Iterator[list[Any]]]) -> Iterator[Any]:
        """The batch of each list of keys, in order.

        `batches` must not refer to what owns this: processes are to end with their last user, and not when cycles are
        collected, which at the end of a program is too late.
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
    """Ctrl-C reaches all processes of a terminal. For SIGTERM torch has a handler, by which a worker ends well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
