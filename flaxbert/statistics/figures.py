"""Pictures of many seeds: every seed is a dot, a failed one a cross."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert.drawing import COLOURS, FAILED, GREY, INK, pyplot, save, tidy
from flaxbert.statistics.runs import Runs
from flaxbert.statistics.selection import expected_best

DOT = dict(s=24, alpha=0.65, linewidths=0, zorder=3)
CROSS = dict(marker="x", s=30, color=FAILED, linewidths=1.4, zorder=4)
BOX = dict(widths=0.6, showfliers=False, patch_artist=True, medianprops=dict(color=INK, linewidth=1.4))


def boxes(arms: Sequence[Runs], path: Path, title: str = "") -> None:
    """A box of quartiles for each arm, a panel for each task, the best constant answer a dashed line.

    Args:
      arms: of one task or of several; arms of one name have one colour.
      path: of the PNG.
      title: above the picture.
    """
    plt = pyplot()
    tasks = list(dict.fromkeys((arm.task, arm.metric) for arm in arms))
    names = list(dict.fromkeys(arm.name for arm in arms))
    widest = max(sum((arm.task, arm.metric) == task for arm in arms) for task in tasks)
    figure, panels = plt.subplots(1, len(tasks), figsize=(max(3.6, len(tasks) * (1.2 + 1.05 * widest)), 4.2),
                                  constrained_layout=True, squeeze=False)
    for axes, (task, metric) in zip(panels[0], tasks, strict=True):
        mine = [arm for arm in arms if (arm.task, arm.metric) == (task, metric)]
        for x, arm in enumerate(mine):
            _box(axes, x, arm, COLOURS[names.index(arm.name) % len(COLOURS)])
        _ground(axes, mine, [arm.name for arm in mine])
        tidy(axes, f"{task}, dev {metric}", grid="y")
    save(figure, path, title)


def _best(axes: Any, arms: Sequence[Runs], names: Sequence[str]) -> None:
    """A curve and its band for each arm."""
    for number, (arm, name) in enumerate(zip(arms, names, strict=True)):
        found = expected_best(arm.sign * arm.values())
        mean, low, high = (arm.sign * np.array(found[each]) for each in ("mean", "low", "high"))
        _curve(axes, mean, low, high, COLOURS[number % len(COLOURS)], name)
    _among(axes, max(len(arm.scores) for arm in arms))
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def difference(a: Runs, b: Runs, compared: Mapping[str, Any], path: Path, title: str = "") -> None:
    """Both as boxes, lines between scores of one seed; by how much A is ahead, with its interval; best of k.

    Args:
      a, b: what was compared.
      compared: from `comparison.compare`.
      path, title: as of `boxes`.
    """
    plt = pyplot()
    a, b = (replace(arm, baseline=compared["baseline"]) for arm in (a, b))
    figure, (left, right, best) = plt.subplots(1, 3, figsize=(11.6, 4.4), constrained_layout=True,
                                               width_ratios=(3, 2, 3))
    at = [_box(left, x, arm, COLOURS[x]) for x, arm in enumerate((a, b))]
    _ground(left, (a, b), [f"{letter}: {Path(arm.name).name}" for letter, arm in (("A", a), ("B", b))])
    tidy(left, f"{a.task}, dev {a.metric}", grid="y")
    seeds, ahead = compared["paired"], compared["ahead"]
    if seeds:
        left.plot([[x[seed] for seed in seeds] for x in at], [a.values(seeds), b.values(seeds)], color=GREY,
                  linewidth=0.7, alpha=0.5, zorder=1)
        _dots(right, 0, a.sign * (a.values(seeds) - b.values(seeds)), COLOURS[2])
    right.plot([0.6] * 2, ahead["interval"] or [ahead["mean"]] * 2, color=INK, linewidth=2)
    right.plot([0.6], [ahead["mean"]], "o", color=INK, markersize=7)
    right.annotate(f"{ahead['mean']:+.3f}", (0.6, ahead["mean"]), xytext=(9, 0), textcoords="offset points",
                   va="center", color=INK, fontweight="bold")
    right.axhline(0, color=INK, linewidth=0.8)
    right.set_xticks([0, 0.6], ["each seed", "mean, 95 %"])
    right.set_xlim(-0.4 if seeds else 0.3, 1.15)
    tidy(right, "A is ahead of B by", grid="y")
    _best(best, (a, b), "AB")
    tidy(best, "expected best of k seeds", grid="y")
    save(figure, path, title)


def _box(axes: Any, x: float, arm: Runs, colour: str) -> dict[int, float]:
    """Median, quartiles and whiskers of an arm, and its seeds; seed -> where it stands."""
    lines = dict(color=colour, linewidth=1.1)
    axes.boxplot([arm.values()], positions=[x], **BOX, whiskerprops=lines, capprops=lines,
                 boxprops=dict(facecolor=colour, edgecolor=colour, alpha=0.18))
    places = _dots(axes, x, arm.values(), colour, arm.failed)
    return dict(zip(arm.scores, places.tolist(), strict=True))


def _dots(axes: Any, x: float, values: np.ndarray, colour: str, failed: np.ndarray | None = None) -> np.ndarray:
    """Seeds as dots, those that failed as crosses, moved aside where others are near: [n] where to."""
    failed = np.zeros(len(values), bool) if failed is None else failed
    places = x + _beside(values)
    axes.scatter(places[~failed], values[~failed], color=colour, **DOT)
    axes.scatter(places[failed], values[failed], **CROSS)
    return places


def _beside(values: np.ndarray) -> np.ndarray:
    """[n] how far to move each dot aside: those within a bin of a fortieth of the range stand in a row."""
    bins = np.round((values - values.min()) / max(np.ptp(values), 1e-9) * 40)
    aside = np.zeros(len(values))
    for each in np.unique(bins):
        row = np.flatnonzero(bins == each)
        aside[row] = min(0.075, 0.7 / len(row)) * (np.arange(len(row)) - (len(row) - 1) / 2)
    return aside


def _ground(axes: Any, arms: Sequence[Runs], names: Sequence[str]) -> None:
    """What arms stand on: their names, how many of their seeds failed, and the best constant answer."""
    axes.set_xticks(range(len(arms)), [f"{name}\n{arm.failed.sum()} of {len(arm.scores)} failed"
                                       for name, arm in zip(names, arms, strict=True)])
    axes.set_xlim(-0.6, len(arms) - 0.4)
    if arms[0].baseline is not None:
        axes.axhline(arms[0].baseline, color=GREY, linestyle="--", linewidth=1.1, zorder=0)
        axes.annotate("constant\nanswer", (1, arms[0].baseline), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=8, color=GREY)


def _curve(axes: Any, mean: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str,
           label: str) -> None:
    """A line over k = 1, 2, ... seeds with its band."""
    k = np.arange(1, len(mean) + 1)
    axes.fill_between(k, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(k, mean, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)


def _among(axes: Any, most: int) -> None:
    """The axis of 1, 2, ..., `most` seeds."""
    axes.set_xticks(range(1, most + 1) if most < 10 else [1, *range(5, most + 1, 5 * (1 + most // 50))])
    axes.set_xlabel("seeds among which the best is chosen")
