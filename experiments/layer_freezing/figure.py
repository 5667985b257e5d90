"""The picture of a freezing record: score and time by the number of frozen layers."""

import statistics
from pathlib import Path
from typing import Any

COLOURS = ("#1f6fb2", "#e08a1e", "#3a8f5b", "#8a4fa3")
INK, GRID = "#333333", "#e5e5e5"


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Scores on the left, a dot a seed; on the right the seconds of training, and on top those of the states.

    Args:
      about: of the record.
      rows: from `table.by_layers`.
      path: of the PNG.
    """
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    if not rows:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    for n, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
        mine, colour = [row for row in rows if row["task"] == task], COLOURS[n % len(COLOURS)]
        frozen = [row["frozen"] for row in mine]
        left.plot(frozen, [statistics.fmean(row["scores"]) for row in mine], color=colour,
                  label=f"{task}  ({mine[0]['metric']})")
        for row in mine:
            left.scatter([row["frozen"]] * len(row["scores"]), row["scores"], s=26, color=colour, alpha=0.6,
                         linewidths=0)
        training = [row["training_seconds"] for row in mine]
        total = [row["training_seconds"] + row["cache_seconds"] for row in mine]
        right.plot(frozen, training, marker="o", markersize=5, color=colour, label=f"{task}, training")
        right.plot(frozen, total, linestyle="--", color=colour, label=f"{task}, with computing the states")
    left.set(ylabel="dev, after the last step")
    right.set(ylabel="seconds", ylim=(0, None))
    for axes in (left, right):
        axes.set_xlabel("frozen layers")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    figure.suptitle(f"Frozen layers, {about['settings']['model']}, {about['date']}", color=INK)
    figure.savefig(path, dpi=130)
    plt.close(figure)
