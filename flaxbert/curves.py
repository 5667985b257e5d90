"""Pictures of runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxbert.drawing import COLOURS, GREY, INK, pyplot, save, tidy


def learning_curve(rows: list[dict[str, Any]], metric: str, path: Path, lowest: bool = False) -> None:
    """Training loss and dev score of one run over its steps, with the best evaluation marked.

    Args:
      rows: of metrics.jsonl.
      metric: the one that chose the best checkpoint.
      path: of the PNG.
      lowest: the lowest score is the best one.
    """
    learning_curves({"": rows}, metric, path, lowest=lowest)


def learning_curves(runs: Mapping[str, list[dict[str, Any]]], metric: str, path: Path, title: str = "",
                    lowest: bool = False) -> None:
    """The same of several runs, one colour each: thin lines for training, lines with dots for dev.

    Args:
      runs: what to call each run -> its rows of metrics.jsonl.
      metric: the one that chose the best checkpoint.
      path: of the PNG.
      title: above the picture.
      lowest: the lowest score is the best one.
    """
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.4 + 0.3 * bool(title)), constrained_layout=True)
    for colour, (name, rows) in zip(COLOURS, runs.items(), strict=False):
        train = [row for row in rows if row["split"] == "train"]
        dev = [row for row in rows if row["split"] == "dev"]
        of = f"{name}, " if name else ""
        left.plot([r["step"] for r in train], [r["loss"] for r in train], linewidth=1.2, label=f"{of}train",
                  color=colour if name else GREY, alpha=0.45 if name else 1.0)
        left.plot([r["step"] for r in dev], [r["loss"] for r in dev], color=colour, marker="o", markersize=4,
                  label=f"{of}dev")
        scored = [r for r in dev if r.get(metric) is not None]
        right.plot([r["step"] for r in scored], [r[metric] for r in scored], color=colour, marker="o",
                   markersize=4, label=name)
        if scored:
            best = (min if lowest else max)(scored, key=lambda r: r[metric])
            right.annotate(f"{best[metric]:.3f}", (best["step"], best[metric]), xytext=(0, 7),
                           textcoords="offset points", ha="center", color=colour if name else INK,
                           fontweight="bold")
    right.margins(y=0.18)
    if left.lines:
        left.legend(frameon=False, fontsize=9)
    if any(runs):
        right.legend(frameon=False, fontsize=9)
    for axes, name in ((left, "loss"), (right, f"dev {metric}")):
        tidy(axes, name, "step", grid="y")
        axes.locator_params(axis="x", integer=True)
    save(figure, path, title)
