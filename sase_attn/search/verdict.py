"""`with_verdict`: whether a search has found anything, judged by its comparison or by its look for signal."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import mean

from sase_attn.comparison import Comparison, Network
from sase_attn.comparison.paired import FEWEST, paired_differences
from sase_attn.files import read_json
from sase_attn.search.compare import RETRAINED, load_comparison
from sase_attn.search.result import SearchResult
from sase_attn.search.signal import Signal
from sase_attn.search.signal.answers import NOTHING, SIGNAL
from sase_attn.search.signal.result import NAME
from sase_attn.training.recipes import Recipe

FOUND, RANDOM = "found", "random-"
"""Labels in a comparison: that of the found genotype, and the beginning of those of random ones."""


def with_verdict(result: SearchResult, comparison: Comparison | None) -> SearchResult:
    """A copy of the result with `decided` and `reason` set.

    A search has decided if the block that it found is known to be better than random ones:
    - by the comparison, if it has five seeds or more: the 95 % interval of the paired difference to the mean of the
      random networks lies above zero. By default its seeds are not those that the block was chosen by; but after a
      search by trainings its test images are;
    - without such a comparison, by the look for signal: it answered "signal", and the method chose by trainings like
      those of the look. Only the comparison can judge a choice by shared weights.

    Nothing is decided where the look for signal answered "nothing to find".

    Args:
        result: the result of the search. The look for signal is read from its folder.
        comparison: the comparison of the found genotype with others, if any. One of another genotype is ignored.

    Raises:
        ValueError: a file of the folder is damaged. ImportError: scipy is not installed.
    """
    if comparison is not None and result.genotype not in _attentions(comparison):
        comparison = None
    decided, reason = _verdict(load_signal(Path(result.output)), comparison, result)
    return replace(result, decided=decided, reason=reason)


def move_old_comparison(result: SearchResult) -> None:
    """Rename the folder of a search's comparison if that compared another genotype than the one found now.

    A search that was continued with more trainings, or has chosen again, may have found another genotype.

    Raises:
        ValueError: a file of the folder is damaged. OSError: it cannot be renamed.
    """
    retrained = Path(result.output) / RETRAINED
    held = [read_json(path, Recipe.from_dict) for path in sorted(retrained.glob(f"{FOUND}-seed*/recipe.json"))]
    others = [recipe.model_kwargs.get("attn") != result.genotype for recipe in held]
    comparison = load_comparison(result.output)
    if any(others) or (comparison is not None and result.genotype not in _attentions(comparison)):
        names = (retrained.with_name(f"{RETRAINED}-before{number}") for number in count(1))
        retrained.rename(next(path for path in names if not path.exists()))


def _attentions(comparison: Comparison) -> set[str | None]:
    return {_attention(network) for network in comparison.networks}


def _attention(network: Network) -> str | None:
    attention: str | None = network.fields.get("model_kwargs", {}).get("attn")
    return attention


def load_signal(folder: Path) -> Signal | None:
    """The look for signal that a search's folder holds, if any. Raises ValueError, naming a damaged file."""
    return Signal.load(folder) if (folder / NAME).is_file() else None


def _verdict(looked: Signal | None, comparison: Comparison | None, result: SearchResult) -> tuple[bool, str]:
    if looked is not None and looked.answer == NOTHING:
        icc = looked.judged.variation.high
        return False, f"there is nothing to find in such trainings: at most {icc:.2f} of their variance is of genotypes"
    judged = None if comparison is None else _against_random(comparison, result.genotype)
    if judged is not None:
        return judged
    if looked is not None and looked.answer == SIGNAL and result.trained:
        icc = looked.judged.variation.low
        return True, f"genotypes differ in such trainings: at least {icc:.2f} of their variance is of genotypes"
    return False, f"the found block was not compared with random ones by {FEWEST} seeds or more"


def _against_random(comparison: Comparison, found: str) -> tuple[bool, str] | None:
    """Whether the found genotype is better than the mean of the random ones, and why; None if that cannot be judged."""
    random = [network.top1 for network in comparison.networks if network.label.startswith(RANDOM)]
    own = [
        network.top1 for network in comparison.networks if network.fields.get("model_kwargs", {}).get("attn") == found
    ]
    if not own or not random or len(comparison.seeds) < FEWEST:
        return None
    both = {FOUND: own[0], RANDOM: [mean(values) for values in zip(*random, strict=True)]}
    [difference] = paired_differences(both, RANDOM, images=comparison.test_images)
    assert difference.low is not None and difference.high is not None
    size = f"{difference.mean:+.2f} points [{difference.low:+.2f}, {difference.high:+.2f}] of {len(random)} random"
    if difference.low > 0:
        return True, f"the found block is better than random ones: {size}"
    if difference.high < 0:
        return False, f"the found block is worse than random ones: {size}"
    return False, f"the found block and random ones cannot be told apart: {size}"
