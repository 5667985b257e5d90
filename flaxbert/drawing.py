"""How all pictures look: their colours, axes and files. matplotlib is imported where the first one is drawn."""

from pathlib import Path
from typing import Any

INK, GREY, GRID, FAILED = "#333333", "#9aa7b5", "#e5e5e5", "#c0392b"
COLOURS = ("#1f6fb2", "#e08a1e", "#3a923a", "#8c5fb3")  # of the first run, the second, ...


def pyplot() -> Any:
    """matplotlib's, which draws into files alone."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def tidy(axes: Any, title: str = "", x: str = "", y: str = "", grid: str = "both") -> None:
    """A title, names of the axes with their units, two spines and a light grid.

    Args:
      axes: of one panel.
      title: over it; empty: what is there stays, and so with the names.
      x, y: what the axes are.
      grid: x, y or both.
    """
    if title:
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    if x:
        axes.set_xlabel(x, color=INK)
    if y:
        axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def save(figure: Any, path: Path, title: str = "") -> None:
    """Writes the PNG, with a title over all panels where one is given, and lets go of the figure."""
    if title:
        figure.suptitle(title, color=INK)
    figure.savefig(path, dpi=130)
    pyplot().close(figure)
