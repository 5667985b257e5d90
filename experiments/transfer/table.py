"""The transfer record as numbers and as Markdown."""

import statistics
from typing import Any

from experiments import tables
from experiments.tables import commits

COLUMNS = ("task", "metric", "pre-trained", "random", "ahead by", "more than the spread", "lowest above highest")


def compare(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a task: scores of both starts by seed, the difference of their means, and the spread.

    The spread is the larger one of the two sample standard deviations over the seeds; of one seed None.
    """
    rows = []
    for task in dict.fromkeys(row["point"]["task"] for row in measured):
        mine = sorted((row for row in measured if row["point"]["task"] == task), key=lambda r: r["point"]["seed"])
        metric = mine[0]["metric"]
        scores = {start: [row["scores"][metric] for row in mine if row["point"]["start"] == start]
                  for start in ("pre-trained", "random")}
        if not all(scores.values()):
            continue
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
    settings = about["settings"]
    lines = [f"Measured {about['date']} on {about['devices']} x {about['device']}, "
             f"{commits(about)}: {settings['epochs']:g} epochs, learning rate "
             f"{settings['toy_rate']:g} on the toy tasks and {settings['real_rate']:g} on the others, batch 32; "
             "dev after the last step, mean ± sample standard deviation (number of seeds). Spread: the larger one "
             "of the two deviations.", "",
             f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        pretrained, random = row["scores"]["pre-trained"], row["scores"]["random"]
        ahead, spread = row["ahead"], row["spread"]
        cells = (row["task"], row["metric"], tables.mean(pretrained), tables.mean(random), f"{ahead:+.3f}",
                 "one seed" if spread is None else f"{_yes(ahead > spread)} ({spread:.3f})",
                 _yes(min(pretrained) > max(random)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
