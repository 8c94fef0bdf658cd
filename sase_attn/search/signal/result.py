"""`signal`: the answer of a look for signal, with the statistics behind it as a `Signal`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sase_attn.files import write_json
from sase_attn.genotype import Genotype
from sase_attn.records import read_record
from sase_attn.search.signal import words
from sase_attn.search.signal.advice import Advice, advice
from sase_attn.search.signal.answers import ERROR, answer
from sase_attn.search.signal.effects import Effect, effects
from sase_attn.search.signal.gains import Gain, expected_maximum, gains
from sase_attn.search.signal.plan import SignalPlan, measured
from sase_attn.search.signal.variation import Variation, variation
from sase_attn.search.trained import Trained

NAME = "signal.json"


@dataclass(frozen=True)
class Measured:
    """The answer by one measure. Higher is better: the loss is negative.

    Attributes:
        answer: "signal", "nothing to find" or "not decided".
        variation: deviations and intraclass correlation; limits err with 5 % each, over all looks together.
        effects: the effects of the operations; all intervals hold together, over all looks, with 95 %.
        perfect, perfect_low, perfect_high: by how much the best genotype of the space is better than a random one, if
            genotypes are normal with the deviation that was found, or with its limits.
        gains: what searches can be expected to gain.
    """

    answer: str
    variation: Variation
    effects: list[Effect]
    perfect: float
    perfect_low: float
    perfect_high: float
    gains: list[Gain]


@dataclass(frozen=True)
class Signal:
    """The answer to whether genotypes of a space differ in trainings of some length.

    Attributes:
        answer: "signal", "nothing to find" or "not decided", by `measure`.
        measure: the measure that decides, "top1" or "loss".
        threshold: the threshold of the intraclass correlation.
        budget: the largest number of trainings.
        look, looks: the look that answered or was the last, and how many the budget allows.
        seeds: the seeds that each genotype was trained with.
        space_size: how many genotypes the space holds.
        top1, loss: the answer by each measure.
        advice: what to do.
        left_out: genotypes of which a training failed.
        trained: the trainings that count.
        epochs: the epochs of each training, if known.
    """

    answer: str
    measure: str
    threshold: float
    budget: int
    look: int
    looks: int
    seeds: list[int]
    space_size: int
    top1: Measured
    loss: Measured
    advice: Advice
    left_out: list[Genotype]
    trained: list[Trained]
    epochs: int | None = None

    @property
    def decided(self) -> bool:
        """Whether the answer is "signal" or "nothing to find"."""
        return self.judged.answer != "not decided"

    @property
    def judged(self) -> Measured:
        """The measure that decides."""
        return self.top1 if self.measure == "top1" else self.loss

    def lines(self) -> list[str]:
        """The answer as lines of text for a terminal."""
        found, top1 = self.judged.variation, self.top1
        name, size = "top-1" if self.measure == "top1" else "loss", f"{found.genotypes} genotypes × {found.seeds} seeds"
        lines = [
            f"{self.answer}, by {name} after {len(self.trained)} trainings: {size}, look {self.look} of {self.looks}",
            f"judged: whether the intraclass correlation (ICC) is above or below {self.threshold:g}",
            *words.variations({"top1": top1.variation, "loss": self.loss.variation}),
            f"limits hold at all looks together, with 5 % on each side; {'loss' if name == 'top-1' else 'top-1'} is "
            "shown, not judged",
        ]
        if self.left_out:
            count = len(self.left_out)
            lines.append(
                f"left out: {count} genotype{'s' * (count > 1)} with a training that failed, so that the space may "
                "differ more than these numbers say"
            )
        if found.all_equal:
            equal = f"all trainings ended at the same {name} within their seed: nothing can be told"
            return [*lines, f"{equal}; train for longer, as attention starts as a constant, and look at one of them"]
        return [
            *lines,
            "expected gain over a random genotype, points of top-1, if genotypes are normal:",
            *words.expectations((top1.perfect, top1.perfect_low, top1.perfect_high), top1.gains),
            f"operations that differ from the mean of their edge, by {name}, all intervals together 95 %:",
            *words.clear_effects(self.judged.effects, self.measure),
            "advice:",
            *(f"  {line}" for line in self.advice.lines(self.answer, self.epochs)),
        ]

    def save(self, folder: str | Path) -> None:
        """Write `signal.json`. Raises OSError."""
        write_json(Path(folder) / NAME, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> "Signal":
        """Read what `save` wrote to a folder. Raises OSError, or ValueError that names the file."""
        return read_record(Path(folder) / NAME, cls)


def signal(done: Sequence[Trained], plan: SignalPlan, *, epochs: int | None = None) -> Signal:
    """The answer at the look that decides, or else at the last look whose trainings have all ended.

    Args:
        done: the trainings, in any order; those that are not of the plan are ignored. One that failed has a value that
            is not finite, and its genotype is left out.
        plan: the plan of the trainings.
        epochs: the epochs of each training, for the advice on longer ones.

    Raises:
        ValueError: trainings of the first look are missing, or fewer than two genotypes are left.
        ImportError: scipy is not installed.
    """
    look = plan.look(done)
    if not look:
        first = plan.step * len(plan.seeds)
        got = first - len(plan.wanted(done))
        raise ValueError(f"wanted the {first} trainings of the first look, got {got} of them")
    rows = plan.rows(done, look)
    if len(rows) < 2:
        raise ValueError(f"wanted 2 genotypes or more whose trainings all ended, got {len(rows)}")
    top1, loss = (_measured(rows, plan, measure) for measure in ("top1", "loss"))
    judged = top1 if plan.measure == "top1" else loss
    return Signal(
        answer=judged.answer,
        measure=plan.measure,
        threshold=plan.threshold,
        budget=plan.budget,
        look=look,
        looks=plan.looks,
        seeds=list(plan.seeds),
        space_size=plan.space.size,
        top1=top1,
        loss=loss,
        advice=advice(
            judged.answer,
            judged.variation.icc,
            top1.gains,
            threshold=plan.threshold,
            step=plan.step,
            seeds=len(plan.seeds),
            space_size=plan.space.size,
        ),
        left_out=[one for one in plan.genotypes[: look * plan.step] if one not in rows],
        trained=[row for found in rows.values() for row in found],
        epochs=epochs,
    )


def _measured(rows: Mapping[Genotype, Sequence[Trained]], plan: SignalPlan, measure: str) -> Measured:
    values = measured(rows, measure)
    found = variation(values, error=plan.error)
    best = expected_maximum(plan.space.size)
    by_genotype = dict(zip(rows, values, strict=True))
    return Measured(
        answer=answer(found, plan.threshold),
        variation=found,
        effects=effects(by_genotype, plan.space, error=ERROR / plan.looks),
        perfect=best * found.genotype_std,
        perfect_low=best * found.genotype_std_low,
        perfect_high=best * found.genotype_std_high,
        gains=gains(found),
    )
