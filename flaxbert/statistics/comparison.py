"""Two recipes side by side: over their seeds, and over the examples that their models answer.

Letters: n and m seeds of A and B, N examples.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flaxbert.errors import InputError
from flaxbert.statistics.distribution import LEVEL, Interval, interval, spreads, summary
from flaxbert.statistics.runs import Runs
from flaxbert.statistics.selection import rank_weights

EXACT = 15  # seeds up to which all 2^n ways to flip signs are gone through
EXAMPLE_RESAMPLES = 1000


def improvement(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """P(A > B) + P(A = B) / 2, of a seed of A and one of B drawn independently (Agarwal et al. 2021, 2108.13264).

    Args:
      a, b: [n] and [m] scores, higher is better.

    Returns:
      probability; its bootstrap interval; p of Mann and Whitney's test of one half, two-sided.
    """
    from scipy.stats import mannwhitneyu

    def probability(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return (1 + np.sign(a[..., :, None] - b[..., None, :]).mean(axis=(-1, -2))) / 2
    return {"probability": float(probability(a, b)), "interval": interval(probability, a, b),
            "p": float(mannwhitneyu(a, b).pvalue)}


def paired_difference(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """By how much A is ahead of B on the same seeds.

    Args:
      a, b: [n] scores, in the same order of seeds.

    Returns:
      mean of a - b; its interval; p of the hypothesis that each difference might as well have the other sign: the
      share of all 2^n ways to flip them (of 2^15 random ones with more than 15 seeds) with a mean as far from 0.
    """
    return {"mean": float(np.mean(a - b)), "interval": interval(np.mean, a - b, method="BCa"),
            "p": _permuted(np.mean, a - b, kind="samples")}


def unpaired_difference(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """The same of independent seeds; p: the share of ways to deal the scores out to A and B, 2^15 at most.

    Args:
      a, b: [n] and [m] scores.
    """
    def difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)
    return {"mean": float(difference(a, b)), "interval": interval(difference, a, b, method="BCa"),
            "p": _permuted(difference, a, b, kind="independent")}


def _permuted(statistic: Callable[..., Any], *samples: np.ndarray, kind: str) -> float | None:
    from scipy.stats import permutation_test
    if min(map(len, samples)) < 2:
        return None

    def rounded(*samples: np.ndarray, axis: int = -1) -> np.ndarray:  # so that ties are ties
        return np.round(statistic(*samples, axis=axis), 9)
    return float(permutation_test(samples, rounded, permutation_type=kind, vectorized=True, axis=-1, batch=4096,
                                  n_resamples=2 ** EXACT, random_state=np.random.default_rng(0)).pvalue)


def over_examples(metric: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray,
                  labels: np.ndarray) -> dict[str, Any]:
    """By how much one model is ahead of another on a split: the uncertainty that is due to its examples.

    Args:
      metric: (predictions, labels) -> score, of `metrics.METRICS` say.
      a, b: [N] or [N, C] predictions of the two models for the same examples.
      labels: [N] or [N, C].

    Returns:
      difference, A less B; its interval, percentiles over 1000 resamples of the examples.
    """
    def ahead(rows: np.ndarray | slice) -> float:
        return metric(a[rows], labels[rows]) - metric(b[rows], labels[rows])
    drawn = np.random.default_rng(0).integers(len(labels), size=(EXAMPLE_RESAMPLES, len(labels)))
    low, high = np.quantile([ahead(rows) for rows in drawn], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"difference": float(ahead(slice(None))), "interval": [float(low), float(high)]}


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> dict[str, Any]:
    """Whether two models are right equally often, from the examples that only one of them has right.

    Under the hypothesis each of these is A's with probability 1/2; p is the exact binomial one, two-sided.

    Args:
      a_right, b_right: [N] bool.
    """
    from scipy.stats import binomtest
    a_right, b_right = np.asarray(a_right, bool), np.asarray(b_right, bool)
    only_a, only_b = int(np.sum(a_right & ~b_right)), int(np.sum(b_right & ~a_right))
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": p}


def compare(a: Runs, b: Runs) -> dict[str, Any]:
    """All that can be said of two recipes from the scores of their seeds.

    Scores of seeds that both have are compared in pairs, where there are at least two of these: the same seed is
    the same head and the same order of the data in both. Otherwise all scores are, as independent ones.

    Returns:
      task, metric, baseline; a and b: name and `summary` of each; paired: the seeds; ahead: from
      `paired_difference` or `unpaired_difference`, above 0 where A is better; improvement; spread_p; failed_p, of
      Fisher's exact test; best: k -> expected best of k seeds of A and of B, for 1, 5 and as many as both have.

    Raises:
      InputError: runs of different tasks, metrics or dev splits.
    """
    from scipy.stats import fisher_exact
    for name, what in (("task", "task"), ("metric", "metric"), ("baseline", "score of a constant answer on dev")):
        ours, theirs = getattr(a, name), getattr(b, name)
        if ours != theirs and None not in (ours, theirs):
            raise InputError(f"{a.name} and {b.name} cannot be compared: {what} {ours} and {theirs}")
    baseline = b.baseline if a.baseline is None else a.baseline
    a, b = replace(a, baseline=baseline), replace(b, baseline=baseline)
    seeds = sorted(a.scores.keys() & b.scores.keys())
    seeds = seeds if len(seeds) > 1 else []
    both = [a.sign * runs.values(seeds or None) for runs in (a, b)]
    every = [a.sign * runs.values() for runs in (a, b)]
    most = min(map(len, every))
    curves = [a.sign * rank_weights(len(scores)) @ np.sort(scores) for scores in every]
    failures = [[int(runs.failed.sum()), int((~runs.failed).sum())] for runs in (a, b)]
    return {"task": a.task, "metric": a.metric, "baseline": baseline,
            **{letter: {"name": runs.name, **summary(runs.values(), runs.failed)}
               for letter, runs in (("a", a), ("b", b))},
            "paired": seeds, "ahead": (paired_difference if seeds else unpaired_difference)(*both),
            "improvement": improvement(*every), "spread_p": spreads(*every),
            "failed_p": float(fisher_exact(failures).pvalue),
            "best": {k: [float(curve[k - 1]) for curve in curves] for k in sorted({1, min(5, most), most})}}


def describe(compared: dict[str, Any]) -> list[str]:
    """The lines that `flaxbert compare` prints.

    Args:
      compared: from `compare`; `examples`, where there are any, from `flaxbert.compare.over_dev`.
    """
    a, b, seeds, baseline = (compared[key] for key in ("a", "b", "paired", "baseline"))
    ahead, better = compared["ahead"], compared["improvement"]
    header = ("", "seeds", "failed", "mean", "95 %", "std", "median", "min", "max")
    rows = [header, _row("A", a), _row("B", b)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ("failed: the loss was not finite (what a constant answer scores is not known)" if baseline is None else
            f"failed: no better than the best constant answer, {baseline:.4f}")
    of, by = ((f"over the {len(seeds)} seeds that both have", "signs flipped") if seeds else
              ("with no two seeds in common", "seeds dealt out anew"))
    return [
        f"{compared['task']}, dev {compared['metric']}; {rule}", f"A: {a['name']}", f"B: {b['name']}",
        *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows),
        f"A is ahead of B by {ahead['mean']:+.4f}{_within(ahead['interval'], '+.4f')} {of}; {_p(ahead['p'], by)}",
        f"a seed of A beats one of B with probability {better['probability']:.2f}"
        f"{_within(better['interval'], '.2f')}; {_p(better['p'], 'Mann-Whitney')}",
        f"equal spread: {_p(compared['spread_p'], 'Brown-Forsythe')}; "
        f"equal share of failed runs: {_p(compared['failed_p'], 'Fisher')}",
        "expected best of k seeds, A and B: "
        + "; ".join(f"k = {k}: {a:.4f} and {b:.4f}" for k, (a, b) in compared["best"].items()),
        *_over_examples(compared.get("examples")),
    ]


def _over_examples(found: dict[str, Any] | None) -> list[str]:
    """The line about the answers of one model of each, where they were compared."""
    if not found:
        return []
    alone = ("" if found["p"] is None else
             f"; A alone is right on {found['only_a']}, B alone on {found['only_b']}, {_p(found['p'], 'McNemar')}")
    return [f"over the {found['examples']} examples of dev ({found['seed']} of each), A is ahead by "
            f"{found['difference']:+.4f}{_within(found['interval'], '+.4f')}{alone}"]


def _row(letter: str, each: dict[str, Any]) -> tuple[str, ...]:
    numbers = ("" if each[name] is None else f"{each[name]:.4f}" for name in ("std", "median", "min", "max"))
    bounds = each["mean_interval"]
    return (letter, str(each["n"]), str(each["failed"]), f"{each['mean']:.4f}",
            "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}", *numbers)


def _within(bounds: Interval, form: str) -> str:
    return "" if bounds is None else f" (95 %: {bounds[0]:{form}} to {bounds[1]:{form}})"


def _p(value: float | None, test: str) -> str:
    if value is None:
        return f"p not defined ({test})"
    return f"p < 0.001 ({test})" if value < 0.001 else f"p = {value:.3f} ({test})"
