"""The record as numbers and as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import Verdict, rules
from experiments.features import FINE_TUNED, how_measured
from experiments.tables import absent, lines, mean, over_seeds, scores, spread
from experiments.tune_or_not.claims import CLAIMS, WRITTEN
from experiments.tune_or_not.published import PETERS

COLUMNS = ("task", "metric", "features", "fine-tuned", "features ahead by", "Peters 2019 [R]: features",
           "fine-tuned", "features ahead by", "same sign")


def by_task(measured: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    """A row a task that has been measured both ways: scores by seed, by how much features are ahead, Peters'.

    Args:
      measured: rows of the record.
      how: the features.
    """
    rows = []
    for task in dict.fromkeys(row["point"]["task"] for row in measured):
        runs = {each: over_seeds(measured, task=task, how=each) for each in (how, FINE_TUNED)}
        features, full = map(scores, runs.values())
        if features and full:
            published = PETERS.get(task)
            rows.append({"task": task, "metric": runs[how][0]["metric"], "features": features, "fine_tuned": full,
                         "ahead": statistics.fmean(features) - statistics.fmean(full), "published": published,
                         "published_ahead": published and round(published[0] - published[1], 4)})
    return rows


def sign(row: dict[str, Any]) -> str:
    """Whether the difference has Peters' sign; empty where he has none."""
    theirs = row["published_ahead"]
    if not theirs:
        return "no difference published" if theirs == 0 else ""
    noise = spread(row["features"], row["fine_tuned"])
    within = " (within the spread)" if noise is not None and abs(row["ahead"]) <= noise else ""
    return f"{'yes' if row['ahead'] * theirs > 0 else 'no'}{within}"


def markdown(about: dict[str, Any], rows: list[dict[str, Any]], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, a row a task beside the paper's, how many signs are the paper's, and the claims.

    Args:
      about: of the record.
      rows: from `by_task`.
      verdicts: from `claims.judge`.
    """
    text = [how_measured(about)]
    if rows:
        text += ["", "**Features of the frozen model (a mix of all layers, BiLSTM) and fine-tuning**", "",
                 *lines(COLUMNS, map(_cells, rows)), "", _signs(rows)]
    text += ["", *rules(CLAIMS, verdicts, WRITTEN)]
    text += absent(about["settings"], (row["task"] for row in rows))
    return "\n".join(text) + "\n"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    theirs = ("", "", "") if row["published"] is None else (
        *(f"{score:.3f}" for score in row["published"]), f"{row['published_ahead']:+.3f}")
    return (row["task"], row["metric"], mean(row["features"]), mean(row["fine_tuned"]), f"{row['ahead']:+.3f}",
            *theirs, sign(row))


def _signs(rows: list[dict[str, Any]]) -> str:
    """How many differences have the published sign, in a sentence."""
    told = {row["task"]: sign(row) for row in rows if row["published_ahead"]}
    other = [task for task, each in told.items() if each.startswith("no")]
    if not told:
        return "None of these tasks has a published difference."
    return (f"{len(told) - len(other)} of {len(told)} differences have the published sign"
            + (f"; the other sign here: {', '.join(other)}." if other else "."))
