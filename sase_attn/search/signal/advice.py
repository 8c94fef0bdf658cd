"""`advice`: which method to use after the answer, with how many trainings, and how many more an answer would need."""

from collections.abc import Sequence
from dataclasses import dataclass

from sase_attn.search.signal.answers import MORE_SEEDS, MOST, NOTHING, SIGNAL, Size, size_that_decides
from sase_attn.search.signal.gains import TRAININGS, Gain

WORTH = 0.1
"""Points of top-1 that a doubled number of trainings must add to be worth it."""
STRONG = 0.5
"""An intraclass correlation that longer trainings may have."""
LONGER = 4
"""After "nothing to find": trainings of this many times the length may answer differently."""


@dataclass(frozen=True)
class Advice:
    """Advice on what to do after a look for signal.

    Attributes:
        method: a method of `sase-attn search`: "additive", which finds as much as any other, or "none".
        trainings: its budget, beyond which twice as many would add less than `WORTH` points; 0 with "none".
        decides: the trainings that would give an answer four times in five, if the intraclass correlation is
            `decides_icc`; None after "signal", and if even `too_few` are not enough.
        decides_icc: the estimate; after "nothing to find" a strong one, which longer trainings may have.
        too_few: the largest number of trainings that was considered, in words.
        longer: after "nothing to find", trainings of this many times the length may answer differently.
    """

    method: str
    trainings: int
    decides: Size | None
    decides_icc: float
    too_few: str
    longer: int | None

    def lines(self, said: str, epochs: int | None) -> list[str]:
        """The advice as lines of text, for an answer."""
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
    """The advice for an answer, an intraclass correlation and expected gains. Raises ImportError without scipy."""
    trainings = 0 if said == NOTHING else worthwhile_trainings(ladder)
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


def worthwhile_trainings(ladder: Sequence[Gain]) -> int:
    """The last number of trainings that adds `WORTH` points to the one before it; 0 where the first does not."""
    reached, before = 0, 0.0
    for gain in ladder:
        if gain.race - before < WORTH:
            break
        reached, before = gain.trainings, gain.race
    return reached
