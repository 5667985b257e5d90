"""The picture of a freezing record: score and time by the number of frozen layers."""

import statistics
from pathlib import Path
from typing import Any

from experiments import figures
from experiments.figures import COLOURS, DOT


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Scores on the left, a dot a seed; on the right the seconds of training, and on top those of the states.

    Args:
      about: of the record.
      rows: from `table.by_layers`.
      path: of the PNG.
    """
    if not rows:
        return
    figure, [(left, right)] = figures.panels(1, 2, width=5.2)
    for n, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
        mine, colour = [row for row in rows if row["task"] == task], COLOURS[n % len(COLOURS)]
        frozen = [row["frozen"] for row in mine]
        left.plot(frozen, [statistics.fmean(row["scores"]) for row in mine], color=colour,
                  label=f"{task}  ({mine[0]['metric']})")
        for row in mine:
            left.scatter([row["frozen"]] * len(row["scores"]), row["scores"], color=colour, **DOT)
        timed = [row for row in mine if row["training_seconds"] is not None]
        frozen = [row["frozen"] for row in timed]
        training = [row["training_seconds"] for row in timed]
        total = [row["training_seconds"] + row["cache_seconds"] for row in timed]
        right.plot(frozen, training, marker="o", markersize=5, color=colour, label=f"{task}, training")
        right.plot(frozen, total, linestyle="--", color=colour, label=f"{task}, with computing the states")
    right.set_ylim(0, None)
    for axes, name in ((left, "dev, after the last step"), (right, "seconds")):
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, fontsize=9)
        figures.tidy(axes, "", "frozen layers", name, grid="y")
    figures.save(figure, path, f"Frozen layers, {about['settings']['model']}, {about['date']}")
