"""The pictures of a stability record: scores, training losses, learning rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import figures
from experiments.figures import COLOURS, CONSTANT, GREY, INK
from experiments.stability.arms import Arm, Measured
from experiments.tables import written
from flaxbert.statistics.figures import boxes

CROSS = {name: value for name, value in figures.CROSS.items() if name != "color"}  # in the colour of its arm
SMALL = 9  # points squared
NAMES = {False: "no correction", True: "corrected"}


def draw(about: dict[str, Any], measured: Sequence[Measured], folder: Path) -> None:
    """Writes figure.png (boxes), losses.png and rates.png.

    Args:
      about: of the record.
      measured: from `arms.of`.
      folder: of the record.
    """
    ending = f"{Path(about['settings']['model']).name}, {about['date']}"
    shown = [each for each in measured if each.arms]
    if shown:
        boxes([arm.runs() for each in shown for arm in each.arms.values()], folder / "figure.png",
              f"Scores of all seeds, {ending}")
        losses(shown, folder / "losses.png", f"Training loss and score, {ending}")
    if gridded := [each for each in measured if len(each.rates) > 1]:
        rates(gridded, folder / "rates.png", f"Failed runs by learning rate, {ending}")


def losses(measured: Sequence[Measured], path: Path, title: str) -> None:
    """Training loss against dev score, a panel a task, a dot a seed; dashed: what a constant answer comes to.

    The runs of the grid's higher rates, smaller, are there too: most of those that failed are among them.
    """
    figure, panels = figures.panels(1, len(measured), width=4.1)
    names = list(dict.fromkeys(arm.name for each in measured for arm in each.every))
    for axes, each in zip(panels[0], measured, strict=True):
        for arm in each.every:
            runs, colour = arm.runs(), COLOURS[names.index(arm.name)]
            size = {} if arm in each.arms.values() else {"s": SMALL}
            for marks, of in ((figures.DOT, ~runs.failed), (CROSS, runs.failed)):
                axes.scatter(arm.losses[of], runs.values()[of], color=colour, **marks | size)
        some = each.every[0]
        axes.axvline(some.row["constant_loss"], **CONSTANT)
        axes.axhline(some.runs().baseline, **CONSTANT)
        figures.tidy(axes, f"{each.task}, dev {some.row['metric']}", "training loss, last epoch")
    handles = [*(figures.dot(colour, " ".join(name.split()))
                 for name, colour in zip(names, COLOURS, strict=False)),
               figures.line(INK, "smaller: higher rates", linestyle="", marker="o", markersize=3),
               figures.line(INK, "failed", linestyle="", marker="x", markersize=6, markeredgewidth=1.5),
               figures.line(GREY, "constant answer", linestyle="--", linewidth=1.1)]
    figures.legend(figure, handles, 4)
    figures.save(figure, path, title)


def rates(measured: Sequence[Measured], path: Path, title: str) -> None:
    """The share of failed runs by learning rate, a panel a task, with Wilson's 95 % interval."""
    figure, panels = figures.panels(1, len(measured), width=4.1, sharey=True)
    for axes, each in zip(panels[0], measured, strict=True):
        for corrected, colour, aside in ((False, COLOURS[0], 0.985), (True, COLOURS[1], 1.015)):
            arms = [each.grid[rate, corrected] for rate in each.rates if (rate, corrected) in each.grid]
            share, low, high = np.array([_share(arm) for arm in arms]).reshape(-1, 3).T
            axes.errorbar([arm.rate * aside for arm in arms], share, (share - low, high - share), color=colour,
                          marker="o", markersize=6, linewidth=1.8, elinewidth=1.1, capsize=2.5,
                          label=NAMES[corrected])
        axes.set_xscale("log")
        axes.set_xticks(each.rates, [*map(written, each.rates)])
        axes.minorticks_off()
        axes.set_ylim(-0.03, 1.03)
        figures.tidy(axes, f"{each.task}, {each.every[0].epochs:g} epochs", "learning rate")
    panels[0, 0].set_ylabel("share of failed runs", color=INK)
    figures.legend(figure, panels[0, 0].get_legend_handles_labels()[0], 2)
    figures.save(figure, path, title)


def _share(arm: Arm) -> tuple[float, float, float]:
    """Of failed runs, with its interval."""
    from scipy.stats import binomtest
    failed = arm.runs().failed
    bounds = binomtest(int(failed.sum()), len(failed)).proportion_ci(method="wilson")
    return float(failed.mean()), bounds.low, bounds.high
