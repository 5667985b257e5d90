"""The scores of n seeds in a few numbers, and how far they can be trusted.

Intervals are 95 % bootstrap intervals over 9999 resamples, the same ones each time. Those of means are
bias-corrected and accelerated (BCa: Efron 1987), which suits the skewed scores that a few failed runs make; all
others are percentiles, since a median or a maximum is not smooth enough for that. Of few seeds they are too
narrow: in a simulation the interval held the true mean 80 times of 100 with 5 seeds, 89 with 10, 93 with 25; where
a fifth of the runs fails, 62 times with 5 seeds, since a third of all such samples has no failed run in it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxbert.statistics.baseline import ROUNDING

LEVEL, RESAMPLES = 0.95, 9999
Interval = list[float] | None  # lowest and highest; None where there are not two scores


def summary(scores: Sequence[float] | np.ndarray, failed: Sequence[bool] | np.ndarray) -> dict[str, Any]:
    """The numbers that a table of seeds is made of.

    Args:
      scores: [n], finite, n at least 1; `Runs.values` has a number for runs without a score too.
      failed: [n] bool, from `baseline.failed`.

    Returns:
      n, failed (how many), mean, std (of the sample: n - 1 below; None of one), median, min, max; mean_interval
      and median_interval.
    """
    scores = np.asarray(scores, np.float64)
    return {"n": len(scores), "failed": int(np.sum(failed)), "mean": float(scores.mean()),
            "std": float(scores.std(ddof=1)) if len(scores) > 1 else None, "median": float(np.median(scores)),
            "min": float(scores.min()), "max": float(scores.max()),
            "mean_interval": interval(np.mean, scores, method="BCa"),
            "median_interval": interval(np.median, scores)}


def interval(statistic: Callable[..., Any], *samples: np.ndarray, method: str = "percentile") -> Interval:
    """Bootstrap interval of a statistic of one sample, or of several that are drawn independently.

    Args:
      statistic: of the samples, along `axis`.
      samples: one-dimensional.
      method: "percentile" or "BCa".
    """
    from scipy.stats import bootstrap
    if min(map(len, samples)) < 2:
        return None
    if max(map(np.ptp, samples)) < ROUNDING:  # nothing that resampling could change
        return [float(statistic(*samples, axis=-1))] * 2
    found = bootstrap(samples, statistic, n_resamples=RESAMPLES, confidence_level=LEVEL, method=method, batch=1000,
                      vectorized=True, axis=-1, random_state=np.random.default_rng(0)).confidence_interval
    return [float(found.low), float(found.high)]


def spreads(a: np.ndarray, b: np.ndarray) -> float | None:
    """p of the hypothesis that two samples are spread equally widely (Brown and Forsythe 1974).

    Distances are taken from the median, so that a few failed runs do not decide it. None where these are all alike
    in both samples, or one has fewer than three scores.
    """
    from scipy.stats import levene
    far = [np.abs(sample - np.median(sample)) for sample in (a, b)]
    if min(len(a), len(b)) < 3 or max(map(np.ptp, far)) < ROUNDING:
        return None
    return float(levene(a, b, center="median").pvalue)
