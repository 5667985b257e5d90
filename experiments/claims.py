"""What a paper claims, the rule by which it is confirmed here, and what came of it: of any study.

A claim's name begins with the letter of the article's claim that it belongs to (A to F), as "C close".
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from experiments.tables import lines

T = TypeVar("T")
COLUMNS = ("claim", "task", "found", "published", "verdict")
VERDICTS = {True: "confirmed", False: "not confirmed at this size", None: "not measured"}
BEFORE = "which stood before the measurement"


class Finding(NamedTuple):
    """What was found of a claim on a task.

    Attributes:
      found: the numbers.
      holds: whether they confirm the claim; None: it cannot be told.
      published: what the paper has for the same, with its mark: [S] read in the paper, [R] recalled.
    """

    found: str
    holds: bool | None
    published: str = ""


NOT_MEASURED = Finding("", None)


class Claim(NamedTuple, Generic[T]):
    """One claim.

    Attributes:
      name: short.
      says: the claim.
      rule: when it is confirmed.
      judge: what a task's measurements say.
    """

    name: str
    says: str
    rule: str
    judge: Callable[[T], Finding]


class Verdict(NamedTuple):
    """What came of a claim on a task, or on several, which `task` then tells."""

    claim: str
    task: str
    found: str
    published: str
    verdict: str


def judge(claims: Iterable[Claim[T]], measured: Iterable[tuple[str, T]],
          absent: Iterable[tuple[str, T]] = ()) -> list[Verdict]:
    """Every claim on every task.

    Args:
      claims: of one study.
      measured: (task, what the claims' judges read of it).
      absent: the same of tasks without a measurement; told where something is published of them.
    """
    measured, absent = list(measured), list(absent)
    found = [(claim.name, task, finding) for claim in claims
             for these, wanted in ((measured, True), (absent, False)) for task, each in these
             if (finding := claim.judge(each)).published or wanted]
    return [Verdict(name, task, each.found, each.published, VERDICTS[each.holds]) for name, task, each in found]


def rules(claims: Iterable[Claim], verdicts: Sequence[Verdict], written: str = BEFORE) -> list[str]:
    """Lines of Markdown: the table of the verdicts, and under it the claims' rules.

    Args:
      claims: all of a study's, whether there is a verdict on them or not.
      verdicts: from `judge`; none: the rules alone.
      written: when the rules were, as "written after the record of 2026-11-21".
    """
    table = ["**The claims**", "", *lines(COLUMNS, map(tuple, verdicts)), ""] if verdicts else []
    return [*table, f"The rules, {written}:", "",
            *(f"- **{claim.name}.** {claim.says} Confirmed where {claim.rule}." for claim in claims)]


def p(value: float) -> str:
    """A probability as text."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
