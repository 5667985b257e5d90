"""What is said of the best of many seeds, and by which rule it is confirmed here."""

import statistics
from collections.abc import Callable

from experiments.claims import NOT_MEASURED, Claim, Finding
from experiments.seed_selection.curves import ARMS, SOME, Arm, Measured

HALF = 0.5  # of what choosing promises


def told(promised: float, real: float, more: str) -> Finding:
    """What choosing promises and what it gives; nothing can be told where it promises nothing.

    Args:
      promised, real: leads over the mean seed.
      more: by how much `real` may be off, or of how many runs it is.
    """
    return Finding(f"promises {promised:+.3f}, gives {real:+.3f} ({more})", real < HALF * promised) \
        if promised > 0 else NOT_MEASURED


def lead(key: tuple[bool, bool]) -> Callable[[Measured], Finding]:
    """A judge of one arm: by how much the best of all seeds leads, where it was chosen and on the other half."""
    def judge(measured: Measured) -> Finding:
        arm = measured.arms.get(key)
        if not arm:
            return NOT_MEASURED
        low, high = arm.band("other")
        return told(arm.lead("chosen"), arm.lead("other"),
                    f"{low:+.3f} to {high:+.3f} by halving, {arm.row['n']} seeds")
    return judge


def more_seeds(measured: Measured) -> Finding:
    """What all seeds add to five of them, the mean of the arms with more than five."""
    arms = [arm for arm in measured.arms.values() if arm.row["n"] > SOME]
    return _mean_of(arms, lambda arm, curve: arm.lead(curve) - arm.lead(curve, SOME))


def by_dev(measured: Measured) -> Finding:
    """The best seed by dev, on the test split; the mean of the arms. The toy tasks alone have one here."""
    arms = [arm for arm in measured.arms.values() if arm.row["dev"]]
    return _mean_of(arms, lambda arm, curve: arm.lead(curve, by="dev"))


def _mean_of(arms: list[Arm], gain: Callable[[Arm, str], float]) -> Finding:
    if not arms:
        return NOT_MEASURED
    promised, real = (statistics.fmean(gain(arm, curve) for arm in arms) for curve in ("chosen", "other"))
    return told(promised, real, f"mean of {len(arms)} arms")


_LEFT = "on the other half less than half of its lead over the mean seed is left"
CLAIMS = (
    *(Claim(f"F {name}", f"The best of all seeds over-fits the half of the examples that chose it ({name}).",
            _LEFT, lead(key)) for key, name in ARMS.items()),
    Claim("F more seeds", "Beyond five seeds choosing promises more than it gives.",
          "of what the lead gains from five seeds to all, the mean of the arms, less than half is gained on the "
          "other half", more_seeds),
    Claim("F dev to test", "The seed that dev chooses over-fits dev (of a toy task, which has a test split).",
          "on test less than half of its lead over the mean seed is left, the mean of the arms", by_dev),
)
