"""Devlin's claims about features by layer, and by which rule each is confirmed here."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from experiments import paired
from experiments.claims import NOT_MEASURED, Claim, Finding
from experiments.feature_based.published import DEVLIN, ROWS
from experiments.features import FINE_TUNED
from experiments.tables import over_seeds

WRITTEN = "written after the record of 2026-11-21"
CLOSE = 0.01  # on both sides; the published gap is 0.003
BEST, UPPER, LAST = "concat_last4", "second_to_last", "last"


class Measured(NamedTuple):
    """What there is of one task.

    Attributes:
      task: its name.
      scores: row of the table -> seed -> score.
    """

    task: str
    scores: dict[str, dict[int, float]]


def of(rows: Iterable[dict[str, Any]], task: str) -> Measured:
    """The rows of a record that are of a task."""
    rows = list(rows)
    return Measured(task, {how: paired.by_seed(over_seeds(rows, task=task, how=how)) for how in ROWS})


def _published(task: str, a: str, b: str) -> str:
    scores = DEVLIN.get(task)
    return f"{scores[a] - scores[b]:+.3f} [S]" if scores else ""


def of_two(a: str, b: str,
           holds: Callable[[paired.Difference | None], bool | None]) -> Callable[[Measured], Finding]:
    """A judge of row a less row b, by their difference over the seeds that both have."""
    def judge(measured: Measured) -> Finding:
        found = paired.difference(measured.scores[a], measured.scores[b])
        return Finding(paired.written(found), holds(found), _published(measured.task, a, b))
    return judge


def best(measured: Measured) -> Finding:
    """The last four side by side against each other set; what is told is the one that is nearest to them."""
    found = {how: paired.difference(measured.scores[BEST], measured.scores[how])
             for how in ROWS if how not in (BEST, FINE_TUNED)}
    holds = [paired.ahead(each) for each in found.values()]
    theirs = {how: score for how, score in DEVLIN.get(measured.task, {}).items() if how in found}
    second = max(theirs, key=theirs.get, default="")
    published = f"nearest {second}, {_published(measured.task, BEST, second)}" if second else ""
    if None in holds:
        return NOT_MEASURED._replace(published=published)
    nearest = min(found, key=lambda how: found[how].mean)
    return Finding(f"nearest {nearest}, {paired.written(found[nearest])}", all(holds), published)


CLAIMS = (
    Claim("C best", "The last four layers side by side are the best features.",
          "the 95 % interval of their difference from each other set of layers, over the seeds, is above 0", best),
    Claim("C second-to-last", "The second-to-last layer is better than the last.",
          "the 95 % interval of the difference is above 0", of_two(UPPER, LAST, paired.ahead)),
    Claim("C close", "Features, the last four layers side by side, come close to fine-tuning.",
          f"the 95 % interval of their difference lies between -{CLOSE:g} and +{CLOSE:g}: on both sides, since "
          "features far ahead of it tell of a fine-tuning that was cut short (published: -0.003)",
          of_two(BEST, FINE_TUNED, lambda found: paired.within(found, CLOSE))),
)
