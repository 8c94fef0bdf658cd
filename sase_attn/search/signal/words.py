"""The numbers of a look for signal as lines of text for a terminal."""

from collections.abc import Sequence

from sase_attn.search.signal.effects import Effect
from sase_attn.search.signal.gains import Gain
from sase_attn.search.signal.variation import Variation

NAMES = {"top1": "top-1, points", "loss": "loss"}


def variations(found: dict[str, Variation]) -> list[str]:
    """A table of the deviations and intraclass correlations, one line for each measure."""
    lines = [f"{'':13}  {'std of genotypes':23}  {'std of a training':23}  intraclass correlation"]
    for measure, one in found.items():
        digits = 2 if measure == "top1" else 4
        genotypes = limits(one.genotype_std, one.genotype_std_low, one.genotype_std_high, digits)
        residual = limits(one.residual_std, one.residual_std_low, one.residual_std_high, digits)
        lines.append(f"{NAMES[measure]:13}  {genotypes:23}  {residual:23}  {limits(one.icc, one.low, one.high, 2)}")
    return lines


def expectations(perfect: tuple[float, float, float], ladder: Sequence[Gain]) -> list[str]:
    """A table of the expected gains."""
    return [
        f"the best of the space           {limits(*perfect, 2)}",
        f"after so many trainings  {''.join(f'{gain.trainings:7}' for gain in ladder)}",
        f"  the best of them       {''.join(f'{gain.best_of:7.2f}' for gain in ladder)}",
        f"  a race                 {''.join(f'{gain.race:7.2f}' for gain in ladder)}",
        f"  a race, at most        {''.join(f'{gain.high:7.2f}' for gain in ladder)}",
    ]


def clear_effects(effects: Sequence[Effect], measure: str) -> list[str]:
    """The operations whose interval excludes 0; if there are none, the effect that would have been seen on any edge."""
    digits = 2 if measure == "top1" else 4
    told = [effect for effect in effects if effect.verdict != "inconclusive"]
    widths = [
        (effect.high - effect.low) / 2 for effect in effects if effect.low is not None and effect.high is not None
    ]
    lines = []
    for effect in sorted(told, key=lambda effect: -abs(effect.mean)):
        assert effect.low is not None and effect.high is not None
        name = f"{effect.edge}:{effect.operation}"
        lines.append(f"  {name:36} {effect.mean:+.{digits}f} [{effect.low:+.{digits}f}, {effect.high:+.{digits}f}]")
    if not widths:
        return ["  none can be told: too few genotypes for intervals"]
    if not told:
        return [f"  none of {len(effects)} can be told; an effect of ±{max(widths):.{digits}f} or more would be"]
    return lines


def limits(value: float, low: float, high: float, digits: int) -> str:
    """A value with its interval."""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
