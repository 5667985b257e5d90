"""The transfer record as numbers and as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments import tables
from experiments.tables import limited, lines, over_seeds, scored, where, written

COLUMNS = ("task", "metric", "pre-trained", "random", "ahead by", "more than the spread", "lowest above highest")


def compare(measured: Sequence[dict[str, Any]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """A row a task: scores of both starts by seed, the difference of their means, and the spread.

    The spread is the larger one of the two sample standard deviations over the seeds; of one seed None.

    Args:
      measured: rows of the record.
      tasks: those that come first, in this order.
    """
    rows = []
    for task in dict.fromkeys((*tasks, *(row["point"]["task"] for row in measured))):
        scores = {start: tables.scores(over_seeds(measured, task=task, start=start))
                  for start in ("pre-trained", "random")}
        if all(scores.values()):
            metric = over_seeds(measured, task=task)[0]["metric"]
            ahead = statistics.fmean(scores["pre-trained"]) - statistics.fmean(scores["random"])
            rows.append({"task": task, "metric": metric, "scores": scores, "ahead": ahead,
                         "spread": tables.spread(*scores.values())})
    return rows


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def markdown(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Where it was measured, and a row a task.

    Args:
      about: of the record.
      rows: from `compare`.
    """
    settings, cells = about["settings"], []
    for row in rows:
        pretrained, random = row["scores"]["pre-trained"], row["scores"]["random"]
        ahead, spread = row["ahead"], row["spread"]
        cells.append((row["task"], row["metric"], tables.mean(pretrained), tables.mean(random), f"{ahead:+.3f}",
                      "one seed" if spread is None else f"{_yes(ahead > spread)} ({spread:.3f})",
                      _yes(min(pretrained) > max(random))))
    return "\n".join([
        f"{where(about)}: {settings['model']}, {settings['epochs']:g} epochs at {written(settings['toy_rate'])} "
        f"on the toy tasks and {written(settings['real_rate'])} on the others, batch {settings['batch_size']}"
        f"{limited(settings)}. Scores: {scored(settings)} after the last step, mean ± sample standard deviation "
        "(number of seeds). Spread: the larger one of the two deviations.", "",
        *lines(COLUMNS, cells)]) + "\n"
