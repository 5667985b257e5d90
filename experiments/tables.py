"""What the tables of several studies share: scores over seeds as text, and Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def over_seeds(measured: Iterable[dict[str, Any]], **point: Any) -> list[dict[str, Any]]:
    """The rows of all seeds of a point, in the order of the seeds."""
    mine = [row for row in measured if {**row["point"], **point} == row["point"]]
    return sorted(mine, key=lambda row: row["point"]["seed"])


def scores(rows: Iterable[dict[str, Any]]) -> list[float]:
    """The main metric of each row; one that was no number is left out."""
    return [score for row in rows if (score := row["scores"][row["metric"]]) is not None]


def median(rows: Iterable[dict[str, Any]], name: str) -> float | None:
    """The median of a field over the rows that have it; None where none has."""
    return statistics.median(found) if (found := [row[name] for row in rows if row[name] is not None]) else None


def spread(*groups: Sequence[float]) -> float | None:
    """The largest sample standard deviation of these groups; None where none has two values."""
    return max((statistics.stdev(values) for values in groups if len(values) > 1), default=None)


def mean(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation (n)."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{deviation} ({len(values)})"


def where(about: dict[str, Any]) -> str:
    """When, on what and with which code a record was measured.

    Args:
      about: of the record.
    """
    return f"Measured {about['date']} with `--preset={about['preset']}` on {device(about)}, {commits(about)}"


def device(about: dict[str, Any]) -> str:
    """What a record was measured on."""
    return (f"{about['devices']} x {about['device']} ({about['cores']} processor core"
            f"{'s' * (about['cores'] != 1)})")


def commits(about: dict[str, Any]) -> str:
    """The code that a record was measured with; `about` is of the record, with one commit, a list or None."""
    found = about["commit"] or "unknown"
    found = [found] if isinstance(found, str) else found
    return f"commit{'s' * (len(found) > 1)} {', '.join(f'`{each[:10]}`' for each in found)}"


def written(rate: float) -> str:
    """A learning rate as one writes it: 2e-5."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def limited(settings: Mapping[str, Any]) -> str:
    """How many training examples a study took, to go on a sentence with; empty where it took all."""
    return f"; training examples: {', '.join(settings['limits'])}" if settings["limits"] else ""


def scored(settings: Mapping[str, Any]) -> str:
    """What a study's scores are of."""
    return f"the first {settings['eval_examples']} of dev" if settings["eval_examples"] else "dev"


def titled(parts: Iterable[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> list[str]:
    """Lines of tables, each below its title; those without rows are left out.

    Args:
      parts: (title, header, rows) of each.
    """
    return [line for title, header, rows in parts if rows
            for line in ("", f"**{title}**", "", *lines(header, rows))]


def absent(settings: Mapping[str, Any], measured: Iterable[str]) -> list[str]:
    """Lines that name the tasks of the settings that have not been measured; none where all have."""
    measured = set(measured)
    names = [task for task in settings["tasks"] if task not in measured]
    return ["", f"Not measured: {', '.join(names)}."] if names else []


def lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
