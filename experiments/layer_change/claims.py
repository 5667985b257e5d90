"""Claim B, and by which rule it is confirmed here; the rules stood before the measurement.

Published: Merchant et al. 2020 (2004.14448), without numbers by layer at hand.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.claims import NOT_MEASURED, Claim, Finding, Verdict, judge
from experiments.layer_change.runs import OTHER, OWN, RSA, SHIFT, Measured, Thirds
from experiments.paired import difference, written

SHARE = 0.2  # of what the top third changes: to change by less is hardly to change
LEAST = 2  # seeds
SYNTAX, OTHERS = "conll2003_chunk", ("mnli", "squad")


def late_most(measured: Measured) -> Finding:
    """The top third against the bottom third, by both measures."""
    found = {name: measured.thirds(measure) for name, measure in (("1 - RSA", RSA), ("1 - cosine", SHIFT))}
    if len(measured.runs) < LEAST or not all(found.values()):
        return NOT_MEASURED
    told = "; ".join(f"{name} {_mean(each, 'top'):.3f} at the top, {_mean(each, 'bottom'):.3f} at the bottom"
                     for name, each in found.items())
    ahead = difference(*({run.seed: getattr(each, side) for run, each in
                          zip(measured.runs, found["1 - RSA"], strict=True)} for side in ("top", "bottom")))
    return Finding(f"{told}; 1 - RSA larger at the top by {written(ahead)}",
                   all(each.top > each.bottom for every in found.values() for each in every),
                   "top layers change most [S]")


def early_hardly(measured: Measured) -> Finding:
    """The bottom third's share of what the top third changes."""
    shares = [each.share for each in measured.thirds(RSA)]
    if len(shares) < LEAST or not np.isfinite(shares).all():
        return NOT_MEASURED
    return Finding(f"1 - RSA of the bottom third is {min(shares):.2f} to {max(shares):.2f} of the top third's",
                   max(shares) < SHARE, "early layers hardly change [R]")


def own_more(measured: Measured) -> Finding:
    """The top third on both texts."""
    own, other = (measured.thirds(RSA, text=text) for text in (OWN, OTHER))
    if min(len(own), len(other)) < LEAST:
        return NOT_MEASURED
    shifts = [measured.thirds(SHIFT, text=text) for text in (OWN, OTHER)]
    told = "; ".join(f"{name} of the top third {_mean(mine, 'top'):.3f} on own text, {_mean(theirs, 'top'):.3f} "
                     "on other text" for name, mine, theirs in (("1 - RSA", own, other), ("1 - cosine", *shifts))
                     if mine and theirs)
    return Finding(told,
                   all(a.top > b.top for a, b in zip(own, other, strict=True)),
                   "weaker effect on texts out of domain [R]")


def parsing_more(tasks: Mapping[str, Measured]) -> Finding:
    """Dependencies are not at hand; phrases are told beside the others."""
    means = {task: found[:, 1:].mean() for task in (SYNTAX, *OTHERS)
             if task in tasks and (found := tasks[task].changes(RSA)) is not None}
    told = ", ".join(f"{task} {value:.3f}" for task, value in means.items())
    found = f"no dependencies at hand; 1 - RSA, mean of all layers: {told}" if SYNTAX in means else ""
    return Finding(found, None, "parsing changes more of the model than MNLI and SQuAD [S]")


def _mean(thirds: Sequence[Thirds], side: str) -> float:
    return float(np.mean([getattr(each, side) for each in thirds]))


LATE = Claim("B late most", "The late layers change most.",
             "in every seed, of two at least, both 1 - RSA and 1 - cosine are larger in the top third of the "
             "layers than in the bottom third, on the task's own text", late_most)
EARLY = Claim("B early hardly", "The early layers hardly change.",
              f"in every seed, of two at least, the bottom third's 1 - RSA is below {SHARE:g} of the top third's",
              early_hardly)
OWN_MORE = Claim("B own more", "On other text a fine-tuned model has changed less than on its own.",
                 "in every seed, of two at least, the top third's 1 - RSA is larger on own text", own_more)
PARSING = Claim("B parsing more", "Parsing changes more of the model than MNLI and SQuAD.",
                "on dependency parsing the mean of 1 - RSA over all layers is larger than on MNLI and on SQuAD; "
                "dependencies are not at hand, and phrases, told in their place, decide nothing", parsing_more)
CLAIMS = (LATE, EARLY, OWN_MORE, PARSING)


def verdicts(measured: Sequence[Measured]) -> list[Verdict]:
    """The first three on every task, the last on all together."""
    tasks = {each.task: each for each in measured}
    return judge((LATE, EARLY, OWN_MORE), [*tasks.items()]) + judge((PARSING,), [("parsing", tasks)])
