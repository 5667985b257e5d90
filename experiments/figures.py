"""What the pictures of several studies share: panels, axes, dots of seeds, bands over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxbert.drawing import COLOURS, FAILED, GREY, GRID, INK, pyplot, save, tidy

DOT = dict(s=28, alpha=0.65, linewidths=0, zorder=3)
CROSS = dict(marker="x", s=34, color=FAILED, linewidths=1.5, zorder=4)
CONSTANT = dict(color=GREY, linestyle="--", linewidth=1.1, zorder=0)


def panels(rows: int, columns: int, width: float = 4.3, height: float = 3.7, **given: Any) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns].

    Args:
      rows, columns: of panels.
      width, height: of each, in inches.
      given: to `pyplot.subplots`.
    """
    return pyplot().subplots(rows, columns, figsize=(0.6 + width * columns, 0.7 + height * rows), squeeze=False,
                             constrained_layout=True, **given)


def legend(figure: Any, handles: Sequence[Any], columns: int) -> None:
    """One legend for all panels, below them."""
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), frameon=False,
                  fontsize=9)


def line(colour: str, label: str, **style: Any) -> Any:
    """A line for a legend."""
    return pyplot().Line2D([], [], color=colour, label=label, **{"linewidth": 1.8, **style})


def dot(colour: str, label: str) -> Any:
    """The dot of a seed for a legend."""
    return line(colour, label, linestyle="", marker="o", markersize=6, alpha=DOT["alpha"], markeredgewidth=0)


def cross(label: str = "failed") -> Any:
    """The cross of a failed seed for a legend."""
    return line(FAILED, label, linestyle="", marker="x", markersize=6, markeredgewidth=1.5)


def curve(axes: Any, x: np.ndarray, middle: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str,
          **style: Any) -> None:
    """A line with the band around it.

    Args:
      axes: of one panel.
      x, middle, low, high: [T].
      colour: of both.
      style: of the line.
    """
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, middle, color=colour, **{"linewidth": 1.7, **style})


def band(axes: Any, x: np.ndarray, values: np.ndarray, colour: str, **style: Any) -> None:
    """The median over seeds, and from the lowest to the highest of them.

    Args:
      axes: of one panel.
      x: [T].
      values: [n, T] of n seeds; nan where a seed has none.
      colour, style: as of `curve`.
    """
    there = np.isfinite(values).any(axis=0)
    found = values[:, there]
    if found.size:
        curve(axes, np.asarray(x)[there], np.nanmedian(found, axis=0), np.nanmin(found, axis=0),
              np.nanmax(found, axis=0), colour, **style)


def seeds(axes: Any, x: float, values: np.ndarray, failed: np.ndarray, colour: str, wide: float = 0.22) -> None:
    """A dot a seed, side by side in their order, a cross where it failed, and a bar at the mean of all.

    Args:
      axes: of one panel.
      x: where they stand.
      values: [n] scores.
      failed: [n] bool.
      colour: of the dots.
      wide: how far the first and the last are from x.
    """
    at = x + np.linspace(-wide, wide, len(values)) if len(values) > 1 else np.array([x])
    axes.scatter(at[~failed], values[~failed], color=colour, **DOT)
    axes.scatter(at[failed], values[failed], **CROSS)
    axes.plot([x - wide - 0.06, x + wide + 0.06], [values.mean()] * 2, color=colour, linewidth=2, zorder=2)


__all__ = ["COLOURS", "CONSTANT", "CROSS", "DOT", "GREY", "GRID", "INK", "band", "cross", "curve", "dot",
           "legend", "line", "panels", "pyplot", "save", "seeds", "tidy"]
