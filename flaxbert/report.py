"""Pictures of runs."""

from pathlib import Path
from typing import Any

INK, TRAIN, DEV = "#333333", "#9aa7b5", "#1f6fb2"


def learning_curve(rows: list[dict[str, Any]], metric: str, path: Path) -> None:
    """Training loss and dev score over the steps, with the best evaluation marked.

    Args:
      rows: of metrics.jsonl.
      metric: the one that chose the best checkpoint.
      path: of the PNG.
    """
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    train = [row for row in rows if row["split"] == "train"]
    dev = [row for row in rows if row["split"] == "dev"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    left.plot([r["step"] for r in train], [r["loss"] for r in train], color=TRAIN, linewidth=1.2, label="train")
    left.plot([r["step"] for r in dev], [r["loss"] for r in dev], color=DEV, marker="o", markersize=4, label="dev")
    left.set(title="loss", xlabel="step")
    if train or dev:
        left.legend(frameon=False)
    scored = [r for r in dev if r.get(metric) is not None]
    right.plot([r["step"] for r in scored], [r[metric] for r in scored], color=DEV, marker="o", markersize=4)
    right.set(title=f"dev {metric}", xlabel="step")
    if scored:
        best = max(scored, key=lambda r: r[metric])
        right.annotate(f"{best[metric]:.3f}", (best["step"], best[metric]), xytext=(0, 7),
                       textcoords="offset points", ha="center", color=INK, fontweight="bold")
        right.margins(y=0.18)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", integer=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
