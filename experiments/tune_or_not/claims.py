"""Peters' claims about features and fine-tuning, and by which rule each is confirmed here, task by task."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from experiments import paired
from experiments.claims import Claim, Finding, Verdict, judge
from experiments.features import FINE_TUNED
from experiments.tables import over_seeds
from experiments.tune_or_not.published import PETERS

WRITTEN = "written after the record of 2026-11-21"
ABOUT = 0.015  # what rounds to 1 %
MIX = "scalar_mix"  # Peters' features
# The tasks of the paper's exception: there features are 2 to 7 % behind.
SIMILARITY = ("sick_r", "mrpc", "stsb")


class Measured(NamedTuple):
    """What there is of one task.

    Attributes:
      task: its name.
      features, fine_tuned: seed -> score.
    """

    task: str
    features: dict[int, float]
    fine_tuned: dict[int, float]


def of(rows: Iterable[dict[str, Any]]) -> list[Measured]:
    """The rows of a record, by task."""
    rows = list(rows)
    return [Measured(task, *(paired.by_seed(over_seeds(rows, task=task, how=how)) for how in (MIX, FINE_TUNED)))
            for task in dict.fromkeys(row["point"]["task"] for row in rows)]


def of_both(holds: Callable[[paired.Difference | None], bool | None]) -> Callable[[Measured], Finding]:
    """A judge of features less fine-tuning, by their difference over the seeds that both have."""
    def judge(measured: Measured) -> Finding:
        found, theirs = paired.difference(measured.features, measured.fine_tuned), PETERS.get(measured.task)
        return Finding(paired.written(found), holds(found),
                       f"{measured.task} {theirs[0] - theirs[1]:+.3f} [R]" if theirs else "")
    return judge


CLOSE = Claim("D close", "On tasks of several kinds features come within about 1 % of fine-tuning.",
              f"the 95 % interval of the difference, over the seeds, lies between -{ABOUT:g} and +{ABOUT:g}",
              of_both(lambda found: paired.within(found, ABOUT)))
EXCEPTION = Claim("D similarity", "Semantic similarity is the exception: there features are clearly behind.",
                  f"the 95 % interval of the difference is below -{ABOUT:g}",
                  of_both(lambda found: paired.behind(found, ABOUT)))
CLAIMS = (CLOSE, EXCEPTION)


def verdicts(measured: Iterable[Measured]) -> list[Verdict]:
    """The exception on the tasks of similarity, the rule on the others."""
    measured = [(each.task, each) for each in measured]
    return (judge((CLOSE,), [each for each in measured if each[0] not in SIMILARITY])
            + judge((EXCEPTION,), [each for each in measured if each[0] in SIMILARITY]))
