"""What is said of bias correction and warm-up, and by which rule it is confirmed here."""

from collections.abc import Callable

import numpy as np

from experiments import paired
from experiments.claims import NOT_MEASURED, Claim, Finding
from experiments.optimizers.steps import BOTH, CORRECTED, NEITHER, WARM, Measured
from experiments.optimizers.theory import factor
from experiments.seeds import contrast

EXACT, NEAR = 0.01, 0.25  # how far a ratio may be from the formula's, of that
FIRST = 50  # steps


def first_step(measured: Measured) -> Finding:
    """The first update with a rate: until then both have the same weights, and so the same gradients."""
    told, right = [], []
    for warm in (False, True):
        ratios = measured.ratios(warm)
        if ratios is not None:
            step = measured.arms[True, warm].first
            found, formula = ratios[:, step - 1], factor(ratios.shape[1])[step - 1]
            told.append(f"{np.median(found):.3f} at step {step}, formula {formula:.3f}")
            right.append(bool((abs(found / formula - 1) <= EXACT).all()))
    # One of the two can refute it, both are needed to confirm it.
    return Finding("; ".join(told), all(right) if len(right) == 2 or not all(right) else None)


def first_steps(measured: Measured) -> Finding:
    """How far the ratio of the sizes is from the formula's, over the first steps, without warm-up."""
    ratios = measured.ratios(False)
    if ratios is None:
        return NOT_MEASURED
    ratio = np.nanmedian(ratios[:, :FIRST], axis=0)
    off = float(np.nanmedian(abs(ratio / factor(len(ratio)) - 1)))
    return Finding(f"off by {100 * off:.0f} % in the median step; at most {np.nanmax(ratio):.1f} times as large",
                   off <= NEAR)


def higher(better: tuple[bool, bool], worse: tuple[bool, bool]) -> Callable[[Measured], Finding]:
    """A judge of two arms by their scores, seed by seed."""
    def judge(measured: Measured) -> Finding:
        return _ahead(measured, {better: 1, worse: -1})
    return judge


def either(measured: Measured) -> Finding:
    """What warm-up brings without correction, less what it brings with it."""
    return _ahead(measured, {WARM: 1, NEITHER: -1, BOTH: -1, CORRECTED: 1})


def _ahead(measured: Measured, weights: dict[tuple[bool, bool], int]) -> Finding:
    """By the arms' scores with these weights, seed by seed."""
    found = contrast({key: arm.runs() for key, arm in measured.arms.items()}, weights)
    return Finding(paired.written(found), paired.ahead(found))


CLAIMS = (
    Claim("E first step", "Without bias correction the first update is larger, by what the formula says.",
          "at the first step with a rate above 0, with and without warm-up, each seed's ratio is within 1 % of "
          "the formula's", first_step),
    Claim("E first steps", "So are those after it, although the weights then differ.",
          "over the first 50 steps without warm-up the ratio, median of the seeds, is a quarter or less off the "
          "formula's in the median step", first_steps),
    Claim("E correction", "Where there is no warm-up, bias correction raises the score.",
          "Student's 95 % interval of the difference, seed by seed, is above 0", higher(CORRECTED, NEITHER)),
    Claim("E warm-up", "Where there is no bias correction, warm-up raises the score.",
          "the interval is above 0", higher(WARM, NEITHER)),
    Claim("E either", "Each does what the other does: warm-up brings more without correction than with it.",
          "the interval of the difference of the two differences is above 0", either),
)
