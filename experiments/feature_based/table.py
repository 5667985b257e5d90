"""The record as numbers and as Markdown."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import Verdict, rules
from experiments.feature_based.claims import CLAIMS, WRITTEN
from experiments.feature_based.published import DEVLIN, ROWS
from experiments.features import FINE_TUNED, how_measured
from experiments.tables import lines, mean, over_seeds, scores, spread

COLUMNS = ("head on", "here", "behind fine-tuned", "place", "Devlin 2018 [S]", "behind fine-tuned", "place")


def by_layers(measured: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """A row a set of layers, in Devlin's order: scores by seed, and how far their mean is behind fine-tuning's."""
    rows, published = [], DEVLIN.get(task)
    for how in ROWS:
        mine = over_seeds(measured, task=task, how=how)
        if found := scores(mine):
            rows.append({"how": how, "metric": mine[0]["metric"], "scores": found, "mean": statistics.fmean(found),
                         "published": published and published[how],
                         "published_behind": published and round(published[FINE_TUNED] - published[how], 4)})
    full = next((row["mean"] for row in rows if row["how"] == FINE_TUNED), None)
    return [{**row, "behind": None if full is None else full - row["mean"]} for row in rows]


def reversed_pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of rows that do not stand as in the paper: which is better here, and by how much (0: neither).

    The spread is the larger sample standard deviation of the two over the seeds; None of one seed.

    Args:
      rows: from `by_layers`.
    """
    found = []
    for a, b in itertools.combinations([row for row in rows if row["published"] is not None], 2):
        below, above = sorted((a, b), key=lambda row: row["published"])
        if below["mean"] >= above["mean"]:
            found.append({"better": below["how"], "worse": above["how"], "by": below["mean"] - above["mean"],
                          "spread": spread(a["scores"], b["scores"])})
    return found


def markdown(about: dict[str, Any], rows: list[dict[str, Any]], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the table beside the paper's, where the order differs, and the claims.

    Args:
      about: of the record.
      rows: from `by_layers`.
      verdicts: from `claims.judge`.
    """
    task, text = about["settings"]["token_task"], [how_measured(about)]
    if rows:
        text += ["", f"**{task}, {rows[0]['metric']}: a BiLSTM on layers of the frozen model, and the whole model "
                 "fine-tuned**", "", *lines(COLUMNS, _cells(rows)), "", _order(rows)]
    text += ["", *rules(CLAIMS, verdicts, WRITTEN)]
    if not rows:
        text += ["", f"Not measured: {task}."]
    return "\n".join(text) + "\n"


def _cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(row["how"], mean(row["scores"]), _number(row["behind"]), _place(rows, row, "mean"),
             _number(row["published"]), _number(row["published_behind"]), _place(rows, row, "published"))
            for row in rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _place(rows: list[dict[str, Any]], row: dict[str, Any], name: str) -> str:
    """1 of the best row, by the value of that name; rows with equal values share a place."""
    return "" if row[name] is None else str(1 + sum(other[name] > row[name] for other in rows))


def _order(rows: list[dict[str, Any]]) -> str:
    """Where the order of the rows differs from the paper's, in a sentence."""
    known = sum(row["published"] is not None for row in rows)
    if known < 2:
        return "No order of these rows is published."
    pairs, turned = known * (known - 1) // 2, reversed_pairs(rows)
    if not turned:
        return f"The order is the paper's, in all {pairs} pairs of rows."
    told = [f"{pair['better']} above {pair['worse']} by {pair['by']:.3f}"
            + ("" if pair["spread"] is None else f" (spread {pair['spread']:.3f})") for pair in turned]
    return f"The order differs from the paper's in {len(turned)} of {pairs} pairs of rows: {'; '.join(told)}."
