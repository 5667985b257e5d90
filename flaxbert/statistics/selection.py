"""What choosing the best of several seeds brings, and how far it deceives.

Letters: n seeds that were run, k of them among which the best is chosen, N examples.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxbert.statistics.distribution import LEVEL, RESAMPLES


def rank_weights(n: int, replacement: bool = False) -> np.ndarray:
    """How likely the i-th lowest of n scores is the highest of k drawn ones: [n, n], row k - 1, column i - 1.

    Without replacement C(i-1, k-1) / C(n, k), all subsets of k seeds alike: E[best of k] is then estimated without
    bias, and the best of n is the highest score (Tang et al. 2020). That is the default here. With replacement
    (i/n)^k - ((i-1)/n)^k, as in Dodge et al. 2019 (1909.03004), whose curves it is there to compare with: it draws
    one seed twice as if it were two, and so is too low.
    """
    edges = np.arange(n + 1) / n
    if replacement:
        return np.diff(edges ** np.arange(1, n + 1)[:, None], axis=1)
    return np.array([[math.comb(i, k - 1) / math.comb(n, k) for i in range(n)] for k in range(1, n + 1)])


def expected_best(scores: Sequence[float] | np.ndarray, replacement: bool = False) -> dict[str, list[float]]:
    """The best of k seeds, for k = 1 to n.

    Args:
      scores: [n], higher is better.
      replacement: see `rank_weights`.

    Returns:
      lists of n: `mean`, what to expect; `std`, by how much it differs from one set of k seeds to the next (with k
      near n these share most of their seeds, so this says little); `low` and `high`, the bootstrap interval of the
      mean. Where k is near n that rests on the few best runs, and no method makes it sound.
    """
    scores = np.sort(np.asarray(scores, np.float64))
    weights = rank_weights(len(scores), replacement)
    mean, square = weights @ scores, weights @ (scores - scores[0]) ** 2
    variance = square - (mean - scores[0]) ** 2
    drawn = np.random.default_rng(0).integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.quantile(np.sort(scores[drawn], axis=1) @ weights.T, _edges(LEVEL), axis=0)
    return {"mean": mean.tolist(), "std": np.sqrt(np.maximum(variance, 0)).tolist(),
            "low": low.tolist(), "high": high.tolist()}


def _edges(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def selection_curve(chosen_by: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected scores of the seed that is best of k on one half of dev: on that half, and on the other one.

    The expectation is exact: over all subsets of k seeds, and all orders of seeds that are equally good.

    Args:
      chosen_by, other: [n] scores of the seeds on the two halves, higher is better.

    Returns:
      [n] and [n], for k = 1 to n.
    """
    _, group = np.unique(chosen_by, return_inverse=True)
    alike = (np.bincount(group, other) / np.bincount(group))[group]  # of equally good seeds any may be chosen
    order, weights = np.argsort(chosen_by), rank_weights(len(chosen_by))
    return weights @ np.asarray(chosen_by)[order], weights @ alike[order]


def over_halvings(score: Callable[[np.ndarray], Any], examples: int, halvings: int = 100,
                  seed: int = 0) -> dict[str, list[float]]:
    """The curves of `selection_curve`, over random halves of dev, each half choosing once.

    Args:
      score: numbers of some examples -> [n] scores of the seeds on these, higher is better. With the seeds'
        `right` [n, N] that is `lambda rows: right[:, rows].mean(axis=1)`.
      examples: N.
      halvings: how many.
      seed: of the halves.

    Returns:
      lists of n, for k = 1 to n: `chosen` and `other`, the mean curves; `chosen_low`, `chosen_high`, `other_low`
      and `other_high`, within which 95 % of the halvings lie: how much depends on which half it was. All halvings
      share the examples and the seeds, so these are no confidence intervals of the mean curves.
    """
    random, curves = np.random.default_rng(seed), []
    for _ in range(halvings):
        halves = [np.asarray(score(rows), np.float64)
                  for rows in np.array_split(random.permutation(examples), 2)]
        curves.append(np.mean([selection_curve(*halves), selection_curve(*halves[::-1])], axis=0))
    found = {}
    for name, values in zip(("chosen", "other"), np.swapaxes(curves, 0, 1), strict=True):
        low, high = np.quantile(values, _edges(LEVEL), axis=0)
        found |= {name: values.mean(axis=0).tolist(), f"{name}_low": low.tolist(), f"{name}_high": high.tolist()}
    return found
