"""What to do after the answer: which method, how many trainings, and what would decide if nothing did."""

from collections.abc import Sequence
from dataclasses import dataclass

from sase_attn.search.signal.answers import MORE_SEEDS, MOST, NOTHING, SIGNAL, Size, size_that_decides
from sase_attn.search.signal.gains import TRAININGS, Gain

WORTH = 0.1
"""Points of top-1 that twice as many trainings must add, to be worth it."""
STRONG = 0.5
"""Intraclass correlation that longer trainings may have."""
LONGER = 4
"""Times the length of training at which to ask again."""


@dataclass(frozen=True)
class Advice:
    """What is worth doing.

    Attributes:
        method: of `sase-attn search`: "additive", which finds as much as any other, or "none".
        trainings: for it, after which twice as many would add less than `WORTH` points; 0 with "none".
        decides: the trainings that would answer four times in five, if the intraclass correlation is `decides_icc`;
            None after "signal", and where `too_few` is not enough.
        decides_icc: the estimate. After "nothing to find" a strong one, that longer trainings may have.
        too_few: in words, the most trainings that were thought of.
        longer: times the length of these trainings at which the question is open again, after "nothing to find".
    """

    method: str
    trainings: int
    decides: Size | None
    decides_icc: float
    too_few: str
    longer: int | None

    def lines(self, said: str, epochs: int | None) -> list[str]:
        """In words, after what was said."""
        size = f"more than {self.too_few}"
        if self.decides is not None:
            genotypes, seeds = self.decides.genotypes, self.decides.seeds
            size = f"{self.decides.trainings:,} trainings ({genotypes} genotypes × {seeds} seeds)"
        if said == NOTHING:
            length = "" if epochs is None else f" ({self.longer} × {epochs} = {LONGER * epochs} epochs)"
            return [
                "do not search at this length: keep the published block",
                "longer trainings may differ more, which these cannot foresee: at "
                f"{self.longer} times the length{length} {size} would show an ICC of {self.decides_icc:.2f}",
            ]
        lines = [f"if the ICC is {self.decides_icc:.2f}, as estimated, it takes {size} to decide"] * (said != SIGNAL)
        if self.method == "none":
            return [*lines, f"no search is worth it: it can be expected to gain less than {WORTH:g} points"]
        more = f"; twice as many would add less than {WORTH:g} points" if self.trainings < TRAININGS[-1] else " or more"
        start = "search" if said == SIGNAL else "if you search all the same"
        return [*lines, f"{start}: --method {self.method}, {self.trainings} trainings{more}"]


def advice(
    said: str, icc: float, ladder: Sequence[Gain], *, threshold: float, step: int, seeds: int, space_size: int
) -> Advice:
    """What an answer, the intraclass correlation and the gains advise. Raises ImportError without scipy."""
    trainings = 0 if said == NOTHING else worth(ladder)
    expected = max(STRONG, (1 + threshold) / 2) if said == NOTHING else icc
    whole = space_size * MORE_SEEDS * seeds < MOST
    size = None
    if said != SIGNAL:
        size = size_that_decides(expected, threshold, step=step, seeds=seeds, space_size=space_size)
    return Advice(
        method="additive" if trainings else "none",
        trainings=trainings,
        decides=size,
        decides_icc=expected,
        too_few=f"{MORE_SEEDS * seeds} seeds of all {space_size} genotypes" if whole else f"{MOST:,} trainings",
        longer=LONGER if said == NOTHING else None,
    )


def worth(ladder: Sequence[Gain]) -> int:
    """The last number of trainings that adds `WORTH` points to the one before it; 0 where the first does not."""
    reached, before = 0, 0.0
    for gain in ladder:
        if gain.race - before < WORTH:
            break
        reached, before = gain.trainings, gain.race
    return reached
