"""The freezing record as numbers and as Markdown."""

import statistics
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from experiments.claims import Verdict, rules
from experiments.layer_freezing.claims import CLAIMS, WRITTEN
from experiments.tables import absent, limited, lines, mean, median, over_seeds, scored, scores, spread, where

COLUMNS = ("task", "frozen layers", "metric", "dev", "against 0", "training s", "of 0's", "computing the states s",
           "both, of 0's", "parameters trained")


def by_layers(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a task and number of frozen layers k: scores by seed, median seconds of the timed ones, against k = 0.

    Args:
      measured: rows of the record.
    """
    rows = []
    for task, frozen in sorted({(row["point"]["task"], row["point"]["frozen"]) for row in measured}):
        mine = over_seeds(measured, task=task, frozen=frozen)
        if found := scores(mine):
            times = {name: median(mine, name) for name in ("training_seconds", "cache_seconds")}
            rows.append({"task": task, "frozen": frozen, "metric": mine[0]["metric"], "scores": found, **times,
                         "parameters_trained": mine[0]["parameters_trained"]})
    none = {row["task"]: row for row in rows if row["frozen"] == 0}
    return [{**row, **_against(row, none.get(row["task"]))} for row in rows]


def _against(row: dict[str, Any], none: dict[str, Any] | None) -> dict[str, float | None]:
    """What freezing costs and saves, of the row without frozen layers; None without that one."""
    if none is None:
        return dict.fromkeys(("ahead", "training_share", "share"))
    ahead = {"ahead": statistics.fmean(row["scores"]) - statistics.fmean(none["scores"])}
    if None in (row["training_seconds"], none["training_seconds"]):
        return {**ahead, "training_share": None, "share": None}
    return {**ahead, "training_share": row["training_seconds"] / none["training_seconds"],
            "share": (row["training_seconds"] + row["cache_seconds"]) / none["training_seconds"]}


def markdown(about: dict[str, Any], rows: list[dict[str, Any]], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, a row a task and number of frozen layers, a sentence a task, and the claims.

    Args:
      about: of the record.
      rows: from `by_layers`.
      verdicts: from `claims.judge`.
    """
    settings = about["settings"]
    text = [f"{where(about)}: {settings['model']}, {settings['epochs']:g} epochs at {settings['rate']:g}, batch "
            f"{settings['batch_size']}{limited(settings)}. {scored(settings).capitalize()} after the last step, "
            "mean ± sample standard deviation (number of seeds). Seconds are medians over the seeds that were "
            "timed, without compiling; those of training without evaluating and saving.", "",
            *lines(COLUMNS, map(_cells, rows))]
    for task in dict.fromkeys(row["task"] for row in rows):
        if told := _told([row for row in rows if row["task"] == task]):
            text += ["", told]
    text += ["", *rules(CLAIMS, verdicts, WRITTEN)]
    text += absent(settings, (row["task"] for row in rows))
    return "\n".join(text) + "\n"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def number(name: str, digits: int = 2) -> str:
        return "" if row[name] is None else f"{row[name]:.{digits}f}"
    return (row["task"], str(row["frozen"]), row["metric"], mean(row["scores"]),
            "" if row["ahead"] is None else f"{row['ahead']:+.3f}", number("training_seconds", 1),
            number("training_share"), number("cache_seconds", 1), number("share"),
            f"{row['parameters_trained']:,}")


def _told(rows: list[dict[str, Any]]) -> str:
    """How many frozen layers cost less than the spread, and what they save; empty without k = 0 or one seed each.

    Args:
      rows: of one task, k ascending.
    """
    none = rows[0]
    if none["frozen"] or spread(*(row["scores"] for row in rows)) is None:
        return ""
    *_, best = takewhile(lambda row: -row["ahead"] <= spread(row["scores"], none["scores"]), rows)
    if not best["frozen"]:
        return f"{best['task']}: to freeze a layer costs more than the spread over the seeds."
    share = best["training_share"]
    time = "" if share is None else f"; training then takes {share:.2f} of the time"
    return (f"{best['task']}: up to {best['frozen']} frozen layers cost no more than the spread over the "
            f"seeds{time}.")
