"""The picture of a transfer record: every seed a dot, pre-trained beside random."""

from pathlib import Path
from typing import Any

COLOURS = {"pre-trained": "#1f6fb2", "random": "#e08a1e"}
INK, GRID = "#333333", "#e5e5e5"


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """A line a task; a dot a run, a bar at the mean.

    Args:
      about: of the record.
      rows: from `table.compare`.
      path: of the PNG.
    """
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.42 * len(rows)), constrained_layout=True)
    for y, row in enumerate(rows):
        for (start, scores), shift in zip(row["scores"].items(), (-0.14, 0.14), strict=True):
            colour = COLOURS[start]
            axes.scatter(scores, [y + shift] * len(scores), s=26, color=colour, alpha=0.6, linewidths=0,
                         label=start if y == 0 else None)
            axes.scatter([sum(scores) / len(scores)], [y + shift], marker="|", s=190, color=colour, linewidths=2)
    axes.set_yticks(range(len(rows)), [f"{row['task']}  ({row['metric']})" for row in rows])
    axes.set(xlabel="dev, after the last step")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(f"What pre-training buys, {about['date']}", color=INK, loc="left")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
