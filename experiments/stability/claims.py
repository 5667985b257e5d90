"""What the papers claim, and by which rule it is confirmed here; the rules stood before the measurement."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.claims import NOT_MEASURED, Claim, Finding, Verdict, judge, p
from experiments.stability.arms import BOTH, CORRECTED, LONGER, PLAIN, Measured
from experiments.stability.published import METRIC, MOSBACH, Scores
from experiments.tables import written
from flaxbert.statistics.comparison import compare

LEVEL = 0.05  # of p
FIFTH = 0.2  # of the runs: they begin to fail
UNFITTED, MOST, LEAST = 0.9, 0.9, 5  # of the constant guess's loss; of the failed runs; of these so many


def of_two(tell: Callable[[dict[str, Any]], Finding], better: Any, worse: Any,
           published: Callable[[Scores, Scores], str] | None = None) -> Callable[[Measured], Finding]:
    """A judge that compares two arms, a: the one that should be better, and b; see `comparison.compare`.

    Args:
      tell: what the comparison comes to.
      better, worse: their keys.
      published: tells the same of Mosbach's two arms, ours and Devlin's, where these are the two.
    """
    def judge(measured: Measured) -> Finding:
        both, theirs = (measured.arms.get(better), measured.arms.get(worse)), MOSBACH.get(measured.task)
        finding = tell(compare(*(arm.runs() for arm in both))) if all(both) else NOT_MEASURED
        if finding.found and tell is not fewer_fail:
            finding = finding._replace(found=f"{both[0].row['metric']} {finding.found}")
        if not (published and theirs):
            return finding
        told = published(*reversed(theirs))
        return finding._replace(published=f"{measured.task} {METRIC[measured.task]} {told} [R]")
    return judge


def fewer_fail(compared: dict[str, Any]) -> Finding:
    """Fisher's exact test of the numbers of failed runs."""
    a, b, value = compared["a"], compared["b"], compared["failed_p"]
    return Finding(f"{a['failed']} of {a['n']} failed against {b['failed']} of {b['n']}, {p(value)}",
                   a["failed"] / a["n"] < b["failed"] / b["n"] and value < LEVEL)


def higher_mean(compared: dict[str, Any]) -> Finding:
    """The interval of the difference of the means."""
    ahead = compared["ahead"]
    if ahead["interval"] is None:
        return NOT_MEASURED
    low, high = ahead["interval"]
    return Finding(f"{ahead['mean']:+.3f} ({low:+.3f} to {high:+.3f})", low > 0)


def narrower(compared: dict[str, Any]) -> Finding:
    """Brown and Forsythe's test of the spreads."""
    a, b, value = compared["a"], compared["b"], compared["spread_p"]
    if value is None:
        return NOT_MEASURED
    return Finding(f"std {a['std']:.3f} against {b['std']:.3f}, {p(value)}", a["std"] < b["std"] and value < LEVEL)


def fails_first(measured: Measured) -> Finding:
    """The grid from the lowest rate at which a fifth of the runs without correction fails."""
    pairs = {rate: (measured.grid.get((rate, True)), measured.grid.get((rate, False))) for rate in measured.rates}
    if len(pairs) < 2 or not all(map(all, pairs.values())):
        return NOT_MEASURED
    for rate, (corrected, plain) in pairs.items():
        if plain.runs().failed.mean() >= FIFTH:
            finding = fewer_fail(compare(corrected.runs(), plain.runs()))
            return finding._replace(found=f"at {written(rate)}: {finding.found}")
    return Finding(f"up to {written(max(pairs))} not a fifth of them fails", None)


def unfitted(measured: Measured) -> Finding:
    """Training losses of all failed runs, and beside them those of the good ones."""
    if not measured.every:
        return NOT_MEASURED
    failed = np.concatenate([arm.runs().failed for arm in measured.every])
    # A loss that was not finite is none that fits.
    high = np.concatenate([~(arm.losses < UNFITTED * arm.row["constant_loss"]) for arm in measured.every])
    text = (f"{(failed & high).sum()} of {failed.sum()} failed runs, {(~failed & high).sum()} of "
            f"{(~failed).sum()} others")
    return Finding(text, bool(high[failed].mean() >= MOST) if failed.sum() >= LEAST else None)


def verdicts(measured: Sequence[Measured]) -> list[Verdict]:
    """Every claim on every task, those of the paper that are not measured too."""
    tasks = {each.task: each for each in measured}
    return judge(CLAIMS, tasks.items(), [(task, Measured(task, {}, {})) for task in MOSBACH if task not in tasks])


CLAIMS = (
    Claim("E1 failures", "At few epochs bias correction saves runs from failing.",
          "fewer runs fail with it than without, Fisher's exact p < 0.05", of_two(fewer_fail, CORRECTED, PLAIN)),
    Claim("E1 rates", "As the rate rises, the runs without bias correction fail first.",
          "at the lowest rate at which a fifth of them fails, fewer fail with correction, Fisher's exact p < 0.05",
          fails_first),
    Claim("E2 failures", "Many epochs save runs without bias correction from failing.",
          "fewer fail at many epochs than at few, Fisher's exact p < 0.05", of_two(fewer_fail, LONGER, PLAIN)),
    Claim("E mean", "Both together raise the mean.",
          "the 95 % interval of the mean difference, over the seeds that both have, is above 0",
          of_two(higher_mean, BOTH, PLAIN, lambda ours, plain: f"{ours.mean - plain.mean:+.3f}")),
    Claim("E spread", "Both together narrow the spread.",
          "the standard deviation is lower, Brown and Forsythe's p < 0.05",
          of_two(narrower, BOTH, PLAIN, lambda ours, plain: f"std {ours.std:.3f} against {plain.std:.3f}")),
    Claim("E optimisation", "Failed runs fail to fit their training data; they do not over-fit it.",
          "of at least five failed runs, at all epochs and rates, nine tenths end with a training loss of at "
          "least 0.9 of what the classes' shares, guessed each time, lose", unfitted),
)
