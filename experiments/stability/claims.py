"""What the papers claim, and by which rule it is confirmed here; the rules stood before the measurement."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.stability.arms import BOTH, CORRECTED, LONGER, PLAIN, Arm, Measured, written
from flaxbert.statistics.comparison import compare

LEVEL = 0.05  # of p
FIFTH = 0.2  # of the runs: they begin to fail
UNFITTED, MOST, LEAST = 0.9, 0.9, 5  # of the constant guess's loss; of the failed runs; of these so many
HALF = 0.5  # of what choosing promises

# What was found, and whether that confirms the claim; None: it cannot be told.
Finding = tuple[str, bool | None]
NOT_MEASURED: Finding = ("", None)
VERDICTS = {True: "confirmed", False: "not confirmed at this size", None: "not measured"}


class Claim(NamedTuple):
    """One claim.

    Attributes:
      name: short.
      says: the claim.
      rule: when it is confirmed.
      judge: what a task's runs say.
    """

    name: str
    says: str
    rule: str
    judge: Callable[[Measured], Finding]


class Verdict(NamedTuple):
    """What came of a claim on a task."""

    claim: str
    task: str
    found: str
    verdict: str


def judge(measured: list[Measured]) -> list[Verdict]:
    """Every claim on every task."""
    found = [(claim, each.task, *claim.judge(each)) for claim in CLAIMS for each in measured]
    return [Verdict(claim.name, task, text, VERDICTS[holds]) for claim, task, text, holds in found]


def p(value: float) -> str:
    """A probability as text."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def of_two(tell: Callable[[dict[str, Any]], Finding], better: Any, worse: Any) -> Callable[[Measured], Finding]:
    """A judge that compares two arms, a: the one that should be better, and b; see `comparison.compare`."""
    def judge(measured: Measured) -> Finding:
        both = measured.arms.get(better), measured.arms.get(worse)
        return tell(compare(*(arm.runs() for arm in both))) if all(both) else NOT_MEASURED
    return judge


def fewer_fail(compared: dict[str, Any]) -> Finding:
    """Fisher's exact test of the numbers of failed runs."""
    a, b, value = compared["a"], compared["b"], compared["failed_p"]
    return (f"{a['failed']} of {a['n']} failed against {b['failed']} of {b['n']}, {p(value)}",
            a["failed"] / a["n"] < b["failed"] / b["n"] and value < LEVEL)


def higher_mean(compared: dict[str, Any]) -> Finding:
    """The interval of the difference of the means."""
    ahead = compared["ahead"]
    if ahead["interval"] is None:
        return NOT_MEASURED
    low, high = ahead["interval"]
    return f"{ahead['mean']:+.3f} ({low:+.3f} to {high:+.3f})", low > 0


def narrower(compared: dict[str, Any]) -> Finding:
    """Brown and Forsythe's test of the spreads."""
    a, b, value = compared["a"], compared["b"], compared["spread_p"]
    if value is None:
        return NOT_MEASURED
    return f"std {a['std']:.3f} against {b['std']:.3f}, {p(value)}", a["std"] < b["std"] and value < LEVEL


def fails_first(measured: Measured) -> Finding:
    """The grid from the lowest rate at which a fifth of the runs without correction fails."""
    pairs = {rate: (measured.grid.get((rate, True)), measured.grid.get((rate, False))) for rate in measured.rates}
    if len(pairs) < 2 or not all(map(all, pairs.values())):
        return NOT_MEASURED
    for rate, (corrected, plain) in pairs.items():
        if plain.runs().failed.mean() >= FIFTH:
            text, holds = fewer_fail(compare(corrected.runs(), plain.runs()))
            return f"at {written(rate)}: {text}", holds
    return f"up to {written(max(pairs))} not a fifth of them fails", None


def unfitted(measured: Measured) -> Finding:
    """Training losses of all failed runs, and beside them those of the good ones."""
    failed = np.concatenate([arm.runs().failed for arm in measured.every])
    # A loss that was not finite is none that fits.
    high = np.concatenate([~(arm.losses < UNFITTED * arm.row["constant_loss"]) for arm in measured.every])
    text = (f"{(failed & high).sum()} of {failed.sum()} failed runs, {(~failed & high).sum()} of "
            f"{(~failed).sum()} others")
    return text, bool(high[failed].mean() >= MOST) if failed.sum() >= LEAST else None


def deceives(which: tuple[bool, bool]) -> Callable[[Measured], Finding]:
    """What the best of all seeds gains over the mean one, on the half that chose it and on the other half."""
    def judge(measured: Measured) -> Finding:
        arm = measured.arms.get(which)
        gained = gains(arm) if arm else None
        if gained is None:
            return NOT_MEASURED
        promised, real = gained
        return f"promises {promised:+.3f}, gives {real:+.3f}", real < HALF * promised
    return judge


def gains(arm: Arm) -> tuple[float, float] | None:
    """By how much the best of all seeds is ahead of the mean one: on the half that chose it, on the other half.

    None where all seeds are equally good, or there is one.
    """
    curves = [arm.chosen.get(name, [0.0]) for name in ("chosen", "other")]
    promised, real = (curve[-1] - curve[0] for curve in curves)
    return (promised, real) if promised > 0 else None


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
          of_two(higher_mean, BOTH, PLAIN)),
    Claim("E spread", "Both together narrow the spread.",
          "the standard deviation is lower, Brown and Forsythe's p < 0.05", of_two(narrower, BOTH, PLAIN)),
    Claim("E optimisation", "Failed runs fail to fit their training data; they do not over-fit it.",
          "of at least five failed runs, at all epochs and rates, nine tenths end with a training loss of at "
          "least 0.9 of what the classes' shares, guessed each time, lose", unfitted),
    Claim("F few epochs", "The best of all seeds over-fits the half of dev that chose it (no correction).",
          "on the other half less than half of its lead over the mean seed is left", deceives(PLAIN)),
    Claim("F many epochs", "The same at many epochs with correction.",
          "on the other half less than half of that lead is left", deceives(BOTH)),
)
