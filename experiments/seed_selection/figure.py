"""The picture of a seed_selection record: the chosen seed's score where it was chosen and elsewhere, by k."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import figures
from experiments.figures import COLOURS, CONSTANT, GREY, INK
from experiments.seed_selection.curves import ARMS, Arm, Measured

CURVES = (("chosen", COLOURS[1], "on the half that chose it"), ("other", COLOURS[0], "on the other half"))


def draw(about: dict[str, Any], measured: Sequence[Measured], path: Path) -> None:
    """A row a task, a panel an arm.

    Args:
      about: of the record.
      measured: from `curves.of`.
      path: of the PNG.
    """
    if not measured:
        return
    keys = [key for key in ARMS if any(key in each.arms for each in measured)]
    figure, rows = figures.panels(len(measured), len(keys), width=3.5, height=3.1, sharey="row")
    for row, each in zip(rows, measured, strict=True):
        for axes, key in zip(row, keys, strict=True):
            if arm := each.arms.get(key):
                _panel(axes, arm, f"{each.task}: {arm.name}")
            else:
                axes.axis("off")
        first = next(arm for arm in each.arms.values())
        row[0].set_ylabel(f"{first.row['metric']} of the chosen seed", color=INK)
    for axes in rows[-1]:
        axes.set_xlabel("seeds among which the best is chosen", color=INK)
    figures.legend(figure, [*(figures.line(colour, label) for _, colour, label in CURVES),
                            figures.line(INK, "on all examples, expected best of k", linestyle=":"),
                            figures.line(GREY, "the mean seed", linestyle="--", linewidth=1.1)], 4)
    figures.save(figure, path, f"The best of k seeds, {Path(about['settings']['model']).name}, {about['date']}")


def _panel(axes: Any, arm: Arm, title: str) -> None:
    """Bands: 95 % of the halvings. The number at the right: promised less given, at all seeds."""
    halves, n = arm.row["halves"], arm.row["n"]
    k = np.arange(1, n + 1)
    for name, colour, _ in CURVES:
        figures.curve(axes, k, *(np.array(halves[of]) for of in (name, f"{name}_low", f"{name}_high")), colour)
    axes.plot(k, arm.row["best"]["mean"], color=INK, linestyle=":", linewidth=1.6)
    axes.axhline(arm.mean, **CONSTANT)
    chosen, other = halves["chosen"][-1], halves["other"][-1]
    x = 1.03 * n + 0.1
    axes.annotate("", (x, other), (x, chosen), arrowprops=dict(arrowstyle="<->", color=INK, shrinkA=0, shrinkB=0))
    axes.annotate(f"{chosen - other:.3f}", (x, (chosen + other) / 2), xytext=(4, 0), va="center",
                  textcoords="offset points", color=INK, fontweight="bold", fontsize=9)
    axes.set_xlim(1 - 0.03 * n, 1.28 * n)
    axes.set_xticks(range(1, n + 1) if n < 6 else [1, *range(5, n + 1, 5 * (1 + n // 50))])
    figures.tidy(axes, title, grid="y")
