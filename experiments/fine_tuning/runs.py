"""The fine_tuning record by task."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

PRE_TRAINED, RANDOM = STARTS = ("pre-trained", "random")


class Measured(NamedTuple):
    """What there is of one task.

    Attributes:
      task, metric: its name, and its main metric.
      baseline: what the best constant answer scores.
      rates: learning rate -> scores from pre-trained weights by seed, from the lowest rate.
      random: scores from random weights.
      rate: the one of all tasks.
      others: metric -> scores at that rate from pre-trained weights, of every metric.
      lost: learning rate -> runs from pre-trained weights whose loss was not finite, where there are any.
    """

    task: str
    metric: str
    baseline: float | None
    rates: dict[float, list[float]]
    random: list[float]
    rate: float = 0.0
    others: Mapping[str, list[float]] = MappingProxyType({})
    lost: Mapping[float, int] = MappingProxyType({})

    @property
    def scores(self) -> list[float]:
        """From pre-trained weights at the rate of all tasks."""
        return self.rates.get(self.rate, [])

    @property
    def tried(self) -> set[float]:
        """The rates from pre-trained weights, those at which every run was lost among them."""
        return {*self.rates, *self.lost}


def by_task(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[Measured]:
    """The rows of a record by task, in the order of the settings; none of a task whose runs are all lost."""
    names = dict.fromkeys((*settings["tasks"], *(row["point"]["task"] for row in rows)))
    return [_of([row for row in rows if row["point"]["task"] == task], settings["rate"]) for task in names
            if any(row["point"]["task"] == task and not _lost(row) for row in rows)]


def _lost(row: dict[str, Any]) -> bool:
    """Whether a run came to nothing: an error, or a score that is no number, a correlation with a constant."""
    return "error" in row or row["scores"][row["metric"]] is None


def _of(rows: list[dict[str, Any]], rate: float) -> Measured:
    whole = sorted((row for row in rows if not _lost(row)), key=lambda row: row["point"]["seed"])
    metric = whole[0]["metric"]

    def scores(metric: str, **point: Any) -> list[float]:
        found = (row["scores"][metric] for row in whole if {**row["point"], **point} == row["point"])
        return [score for score in found if score is not None]
    ours = sorted({row["point"]["rate"] for row in whole if row["point"]["start"] == PRE_TRAINED})
    return Measured(whole[0]["point"]["task"], metric, whole[0]["baseline"],
                    {each: scores(metric, start=PRE_TRAINED, rate=each) for each in ours},
                    scores(metric, start=RANDOM), rate,
                    {each: scores(each, start=PRE_TRAINED, rate=rate) for each in whole[0]["scores"]},
                    dict(Counter(row["point"]["rate"] for row in rows
                                 if _lost(row) and row["point"]["start"] == PRE_TRAINED)))
