"""What Zhang et al. claim of small data, and by which rule it is confirmed here."""

from collections.abc import Callable, Sequence

from experiments import paired
from experiments.claims import NOT_MEASURED, Claim, Finding, Verdict, judge, p
from experiments.few_sample.arms import ALL, ARMS, NONE, REMEDIES, Measured
from experiments.few_sample.published import REINITIALISED, reinitialised

LEVEL = 0.05  # of p


def helps(remedy: int, published: Callable[[str], str] = lambda task: "") -> Callable[[Measured], Finding]:
    """A judge of one of `REMEDIES` by its effect on the score."""
    def judge(measured: Measured) -> Finding:
        found = measured.effect(remedy)
        theirs = published(measured.task)
        return Finding(paired.written(found), paired.ahead(found), theirs and f"{measured.task} {theirs}")
    return judge


def together(measured: Measured) -> Finding:
    """All three against none of them."""
    found = measured.contrast({ALL: 1, NONE: -1})
    return Finding(paired.written(found), paired.ahead(found))


def saves(remedy: int) -> Callable[[Measured], Finding]:
    """A judge by the runs that fail, over all arms with a remedy and all without: Fisher's exact test."""
    def judge(measured: Measured) -> Finding:
        from scipy.stats import fisher_exact
        if len(measured.arms) < len(ARMS):  # the two sides would differ in more than the remedy
            return NOT_MEASURED
        (a, n), (b, m) = (measured.failed(remedy, yes) for yes in (True, False))
        value = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
        return Finding(f"{a} of {n} failed against {b} of {m}, {p(value)}", a / n < b / m and value < LEVEL)
    return judge


def verdicts(measured: Sequence[Measured]) -> list[Verdict]:
    """Every claim on every task, those of the paper that are not measured too."""
    tasks = {each.task: each for each in measured}
    absent = [(task, Measured(task, {})) for task in REINITIALISED if task not in tasks]
    return judge(CLAIMS, tasks.items(), absent)


_MEAN = ("Student's 95 % interval of its effect, the mean of the four arms with it less that of the four without, "
         "seed by seed, is above 0")
_FAIL = "fewer runs of the four arms with it fail than of the four without, Fisher's exact p < 0.05"
CORRECTION, REINIT, LONGER = range(len(REMEDIES))
CLAIMS = (
    Claim("E bias correction", "On few examples bias correction raises the mean score.", _MEAN, helps(CORRECTION)),
    Claim("E re-initialisation", "To draw the pooler and the top layers anew raises the mean score.", _MEAN,
          helps(REINIT, reinitialised)),
    Claim("E longer", "More epochs raise the mean score.", _MEAN, helps(LONGER)),
    Claim("E together", "All three are better than none.",
          "the interval of the difference of these two arms, seed by seed, is above 0", together),
    Claim("E correction saves", "Bias correction saves runs from failing.", _FAIL, saves(CORRECTION)),
    Claim("E re-initialisation saves", "Layers drawn anew save runs from failing.", _FAIL, saves(REINIT)),
    Claim("E longer saves", "More epochs save runs from failing.", _FAIL, saves(LONGER)),
)
