"""The transfer record as numbers and as Markdown."""

import statistics
from typing import Any

COLUMNS = ("task", "metric", "pre-trained", "random", "ahead by", "more than the spread")


def compare(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a task: scores of both starts by seed, their difference, and whether that exceeds the spread.

    The spread is the larger one of the two ranges (highest - lowest over the seeds).
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
        spread = max(max(values) - min(values) for values in scores.values())
        rows.append({"task": task, "metric": metric, "scores": scores, "ahead": ahead, "spread": spread})
    return rows


def _mean(values: list[float]) -> str:
    """Mean +- sample standard deviation (n)."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{deviation} ({len(values)})"


def markdown(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Where it was measured, and a row a task.

    Args:
      about: of the record.
      rows: from `compare`.
    """
    settings = about["settings"]
    lines = [f"Measured {about['date']} on {about['devices']} x {about['device']}, commit "
             f"`{(about['commit'] or 'unknown')[:10]}`: {settings['epochs']:g} epochs, learning rate "
             f"{settings['toy_rate']:g} on the toy tasks and {settings['real_rate']:g} on the others, batch 32; "
             "dev after the last step, mean ± sample standard deviation (number of seeds). Spread: the larger "
             "range (highest - lowest seed) of the two.", "",
             f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        won = "yes" if row["ahead"] > row["spread"] else "no"
        cells = (row["task"], row["metric"], _mean(row["scores"]["pre-trained"]), _mean(row["scores"]["random"]),
                 f"{row['ahead']:+.3f}", f"{won} ({row['spread']:.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
