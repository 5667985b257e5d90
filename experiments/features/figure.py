"""The picture of a features record: how far features are ahead of fine-tuning, here and in the papers."""

import statistics
from pathlib import Path
from typing import Any

HERE, INK, GRID = "#1f6fb2", "#333333", "#e5e5e5"
SEED = dict(s=26, color=HERE, alpha=0.6, linewidths=0)
PAPER = dict(marker="D", s=34, facecolors="none", edgecolors="#e08a1e", linewidths=1.5)


def draw(about: dict[str, Any], layers: list[dict[str, Any]], compared: list[dict[str, Any]], path: Path) -> None:
    """A line a row of each table: a dot a seed, a bar at the mean, a diamond where the paper has it.

    Args:
      about: of the record.
      layers: from `table.by_layers`.
      compared: from `table.by_task`.
      path: of the PNG.
    """
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    panels = [(title, lines) for title, lines in (
        (f"{about['settings']['token_task']}: a BiLSTM on layers of the frozen model", _layer_lines(layers)),
        ("A mix of all layers with a BiLSTM, by task", _task_lines(compared))) if lines]
    if not panels:
        return
    height = 1.7 + 0.36 * max(len(lines) for _, lines in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(5.8 * len(panels), height), constrained_layout=True,
                                squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels, strict=True):
        _panel(axis, title, lines)
    figure.suptitle(f"Features against fine-tuning, {about['settings']['model']}, {about['date']}", color=INK)
    axes[0, 0].scatter([], [], **SEED, label="a seed here")
    axes[0, 0].scatter([], [], **PAPER, label="the paper, BERT-base")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


# Name, score less the mean of fine-tuning by seed, and what the paper has for that.
Line = tuple[str, list[float], float | None]


def _layer_lines(rows: list[dict[str, Any]]) -> list[Line]:
    """Nothing where fine-tuning has not been measured."""
    return [(row["how"], [score - row["mean"] - row["behind"] for score in row["scores"]],
             None if row["published_behind"] is None else -row["published_behind"])
            for row in rows if row["behind"] is not None]


def _task_lines(rows: list[dict[str, Any]]) -> list[Line]:
    return [(f"{row['task']}  ({row['metric']})",
             [score - statistics.fmean(row["fine_tuned"]) for score in row["features"]], row["published_ahead"])
            for row in rows]


def _panel(axis: Any, title: str, lines: list[Line]) -> None:
    """Differences in points of a hundred."""
    for y, (_, values, published) in enumerate(lines):
        axis.scatter([100 * value for value in values], [y] * len(values), **SEED)
        axis.scatter([100 * statistics.fmean(values)], [y], marker="|", s=190, color=HERE, linewidths=2)
        if published is not None:
            axis.scatter([100 * published], [y], **PAPER)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_yticks(range(len(lines)), [name for name, _, _ in lines])
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.set_xlabel("points ahead of fine-tuning", color=INK)
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
