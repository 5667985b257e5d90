"""The pictures of a stability record: scores, training losses, learning rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.stability.arms import Arm, Measured, written
from flaxbert.curves import COLOURS, GREY, INK
from flaxbert.statistics import figures
from flaxbert.statistics.figures import GRID

DOT = dict(s=30, alpha=0.6, linewidths=0, zorder=3)
CROSS = dict(marker="x", s=34, linewidths=1.5, zorder=4)
CONSTANT = dict(color=GREY, linestyle="--", linewidth=1.1, zorder=0)
NAMES = {False: "no correction", True: "corrected"}


def draw(about: dict[str, Any], measured: Sequence[Measured], folder: Path) -> None:
    """Writes figure.png (boxes), losses.png, rates.png; of each task best_of_k_TASK.png.

    Args:
      about: of the record.
      measured: from `arms.of`.
      folder: of the record.
    """
    ending = f"{Path(about['settings']['model']).name}, {about['date']}"
    shown = [each for each in measured if each.arms]
    if shown:
        figures.boxes([arm.runs() for each in shown for arm in each.arms.values()], folder / "figure.png",
                      f"Scores of all seeds, {ending}")
        losses(shown, folder / "losses.png", f"Training loss and score, {ending}")
    if gridded := [each for each in measured if len(each.rates) > 1]:
        rates(gridded, folder / "rates.png", f"Failed runs by learning rate, {ending}")
    for each in shown:
        figures.best_of_k([arm.runs() for arm in each.arms.values()], folder / f"best_of_k_{each.task}.png",
                          ending)


def losses(measured: Sequence[Measured], path: Path, title: str) -> None:
    """Training loss against dev score, a panel a task, a dot a seed; dashed: what a constant answer comes to."""
    plt = _pyplot()
    figure, panels = plt.subplots(1, len(measured), figsize=(0.8 + 4.1 * len(measured), 4.3), squeeze=False,
                                  constrained_layout=True)
    names = list(dict.fromkeys(arm.name for each in measured for arm in each.arms.values()))
    for axes, each in zip(panels[0], measured, strict=True):
        for arm in each.arms.values():
            runs, colour = arm.runs(), COLOURS[names.index(arm.name)]
            for marks, of in ((DOT, ~runs.failed), (CROSS, runs.failed)):
                axes.scatter(arm.losses[of], runs.values()[of], color=colour, **marks)
        some = each.every[0]
        axes.axvline(some.row["constant_loss"], **CONSTANT)
        axes.axhline(some.runs().baseline, **CONSTANT)
        axes.set_xlabel("training loss, last epoch", color=INK)
        _tidy(axes, f"{each.task}, dev {some.row['metric']}")
    handles = [axes.scatter([], [], color=colour, label=" ".join(name.split()), **DOT)
               for name, colour in zip(names, COLOURS, strict=False)]
    handles += [axes.scatter([], [], color=INK, label="failed", **CROSS),
                plt.Line2D([], [], label="constant answer", **CONSTANT)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * len(measured)),
                  frameon=False, fontsize=9)
    _save(figure, path, title)


def rates(measured: Sequence[Measured], path: Path, title: str) -> None:
    """The share of failed runs by learning rate, a panel a task, with Wilson's 95 % interval."""
    plt = _pyplot()
    figure, panels = plt.subplots(1, len(measured), figsize=(0.8 + 4.1 * len(measured), 4.3), squeeze=False,
                                  constrained_layout=True, sharey=True)
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
        axes.set_xlabel("learning rate", color=INK)
        _tidy(axes, f"{each.task}, {each.every[0].epochs:g} epochs")
    panels[0, 0].set_ylabel("share of failed runs", color=INK)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
                  fontsize=9)
    _save(figure, path, title)


def _share(arm: Arm) -> tuple[float, float, float]:
    """Of failed runs, with its interval."""
    from scipy.stats import binomtest
    failed = arm.runs().failed
    bounds = binomtest(int(failed.sum()), len(failed)).proportion_ci(method="wilson")
    return float(failed.mean()), bounds.low, bounds.high


def _pyplot() -> Any:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def _tidy(axes: Any, title: str) -> None:
    """A title, two spines and a light grid."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title, color=INK)
    figure.savefig(path, dpi=130)
    _pyplot().close(figure)
