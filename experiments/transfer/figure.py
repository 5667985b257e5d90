"""The picture of a transfer record: every seed a dot, pre-trained beside random."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import figures
from experiments.figures import COLOURS


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """A line a task; a dot a run, a bar at the mean.

    Args:
      about: of the record.
      rows: from `table.compare`.
      path: of the PNG.
    """
    figure, [[axes]] = figures.panels(1, 1, width=7.4, height=0.8 + 0.42 * len(rows))
    colours = dict(zip(("pre-trained", "random"), COLOURS, strict=False))
    for y, row in enumerate(rows):
        for (start, scores), shift in zip(row["scores"].items(), (-0.14, 0.14), strict=True):
            axes.scatter(scores, [y + shift] * len(scores), color=colours[start], **figures.DOT)
            axes.scatter([np.mean(scores)], [y + shift], marker="|", s=190, color=colours[start], linewidths=2)
    axes.set_yticks(range(len(rows)), [f"{row['task']}  ({row['metric']})" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    figures.tidy(axes, "", "dev, after the last step", grid="x")
    figures.legend(figure, [figures.dot(colour, start) for start, colour in colours.items()], 2)
    figures.save(figure, path, f"What pre-training buys, {about['settings']['model']}, {about['date']}")
