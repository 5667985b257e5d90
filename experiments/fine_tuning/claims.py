"""Claim A, and by which rule it is confirmed here; the rules stood before the measurement."""

import statistics
from collections.abc import Sequence

from experiments.claims import NOT_MEASURED, Claim, Finding, Verdict, judge
from experiments.fine_tuning.published import DEVLIN, text
from experiments.fine_tuning.runs import Measured
from experiments.tables import written
from flaxbert.statistics.baseline import failed

NOT_AT_HAND = ("swag",)  # of the tasks that the claim names


def works(measured: Measured) -> Finding:
    """Every seed against the constant answer, and the mean against that from random weights."""
    scores, random = measured.scores, measured.random
    if len(scores) < 2 or not random:
        return NOT_MEASURED._replace(published=text(measured.task))
    mean, theirs = map(statistics.fmean, (scores, random))
    lost = measured.lost.get(measured.rate, 0)
    holds = not lost and not failed(scores, measured.baseline).any() and mean > theirs
    return Finding(f"{measured.metric} {mean:.3f}, lowest of {len(scores)} seeds {min(scores):.3f}"
                   f"{_lost(lost)}; constant answer {measured.baseline:.3f}, random weights {theirs:.3f}", holds,
                   text(measured.task))


def range_works(measured: Measured) -> Finding:
    """Every seed at every rate against the constant answer."""
    if len(measured.tried) < 2 or (not measured.lost and min(map(len, measured.rates.values())) < 2):
        return NOT_MEASURED
    told = "; ".join(f"{written(rate)}: {min(scores):.3f} to {max(scores):.3f}"
                     for rate, scores in measured.rates.items())
    holds = not measured.lost and not any(failed(scores, measured.baseline).any()
                                          for scores in measured.rates.values())
    return Finding(f"{measured.metric} at {told}{_lost(sum(measured.lost.values()))}; constant answer "
                   f"{measured.baseline:.3f}", holds)


def _lost(count: int) -> str:
    return f", {count} lost" if count else ""


WORKS = Claim("A works", "One layer on the pre-trained model and a few epochs of all of it at one rate work on "
              "every kind of task.",
              "every seed, of two at least, is above the best constant answer on dev, and their mean is above "
              "that of the same network trained from random weights", works)
RANGE = Claim("A rates", "It works over the range of learning rates.",
              "at every rate every seed, of two at least, is above the best constant answer", range_works)
CLAIMS = (WORKS, RANGE)


def verdicts(measured: Sequence[Measured]) -> list[Verdict]:
    """The first claim on every task, those that are not at hand too; the second where there are several rates."""
    tasks = {each.task: each for each in measured}
    real = any(task in DEVLIN for task in tasks)
    absent = [(task, Measured(task, "", None, {}, [])) for task in NOT_AT_HAND if real and task not in tasks]
    several = [(each.task, each) for each in measured if len(each.tried) > 1]
    return judge((WORKS,), tasks.items(), absent) + judge((RANGE,), several)
