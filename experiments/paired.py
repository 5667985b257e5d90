"""By how much one way of training is ahead of another on the same seeds, where there are few of them.

Student's interval, since a bootstrap of three seeds is far too narrow: it takes the differences as normal.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

LEVEL = 0.95


class Difference(NamedTuple):
    """A less B over the n seeds that both have.

    Attributes:
      mean: of the differences.
      interval: of their mean, 95 %; None of one seed.
      n: seeds.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int


def interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval of a mean, mean -+ t s / sqrt(n) with n - 1 degrees of freedom.

    Args:
      differences: [n], independent.

    Returns:
      (low, high), 95 %; None with n < 2.
    """
    from scipy.stats import t
    n = len(differences)
    if n < 2:
        return None
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    mean = statistics.fmean(differences)
    return mean - half, mean + half


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """A less B, seed by seed; None without a seed that both have.

    Args:
      a, b: seed -> score.
    """
    ahead = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    return Difference(statistics.fmean(ahead), interval(ahead), len(ahead)) if ahead else None


def within(found: Difference | None, most: float) -> bool | None:
    """Whether A is as good as B to `most`, in both directions: the whole interval is in -most ... most.

    None where there is no interval: of one seed nothing can be told.
    """
    if found is None or found.interval is None:
        return None
    low, high = found.interval
    return -most <= low and high <= most


def ahead(found: Difference | None, by: float = 0.0) -> bool | None:
    """Whether A is ahead of B: the whole interval is above `by`; None where there is no interval."""
    if found is None or found.interval is None:
        return None
    return found.interval[0] > by


def behind(found: Difference | None, by: float = 0.0) -> bool | None:
    """Whether A is behind B: the whole interval is below -`by`; None where there is no interval."""
    if found is None or found.interval is None:
        return None
    return found.interval[1] < -by


def written(found: Difference | None) -> str:
    """The mean and its interval as text, and the number of seeds; empty for None."""
    if found is None:
        return ""
    if found.interval is None:
        return f"{found.mean:+.3f}, one seed"
    low, high = found.interval
    return f"{found.mean:+.3f} ({low:+.3f} to {high:+.3f}, {found.n} seeds)"


def by_seed(rows: Iterable[dict[str, Any]]) -> dict[int, float]:
    """Seed -> main metric, of a point's rows; a score that was no number is left out."""
    return {row["point"]["seed"]: score for row in rows
            if (score := row["scores"][row["metric"]]) is not None}
