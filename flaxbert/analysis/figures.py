"""Pictures of what changed, layer by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert.analysis.base import Row
from flaxbert.drawing import COLOURS, INK, pyplot, save, tidy

WHAT = ("text", "kind", "head")  # what tells the lines of one measure apart, where a row has it


def label(row: Row) -> str:
    """What tells a row from others of its measure: own, other, ..."""
    return " ".join(str(row[name]) for name in WHAT if row.get(name) is not None)


def lines(rows: Sequence[Row], path: Path, bounds: tuple[float | None, float | None] | None = None) -> None:
    """A panel for each measure: the layer from left to right, a line for each text.

    Args:
      rows: of one analysis; those of no layer are left out.
      path: of the PNG.
      bounds: of the values.
    """
    plt = pyplot()
    rows = [row for row in rows if row["layer"] is not None and row["value"] is not None]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    figure, panels = plt.subplots(1, len(measures), figsize=(0.6 + 4.6 * len(measures), 3.6), squeeze=False,
                                  constrained_layout=True)
    for axes, measure in zip(panels[0], measures, strict=True):
        draw_lines(axes, [row for row in rows if row["measure"] == measure], measure, bounds)
    save(figure, path)


def lines_and_map(totals: Sequence[Row], rows: Sequence[Row], path: Path, title: str) -> None:
    """Lines of the layers' totals, and beside them a map: kinds from top to bottom, the darker the more.

    Args:
      totals: of one measure.
      rows: of the same measure, each with a `kind`; those of no layer are left out.
      path: of the PNG.
      title: above the panels.
    """
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True,
                                         gridspec_kw=dict(width_ratios=(1, 1.5)))
    draw_lines(left, [{**row, "kind": None} for row in totals if row["layer"] is not None],
               f"{title}, all parameters", (0, None))
    rows = [row for row in rows if row["layer"] is not None]
    kinds, layers = list(dict.fromkeys(row["kind"] for row in rows)), sorted({row["layer"] for row in rows})
    cells = np.full((len(kinds), len(layers)), np.nan)
    for row in rows:
        cells[kinds.index(row["kind"]), layers.index(row["layer"])] = row["value"]
    shown = right.imshow(cells, cmap="Blues", vmin=0, aspect="auto")
    right.set_xticks(range(len(layers)), [layer_name(layer) for layer in layers])
    right.set_yticks(range(len(kinds)), kinds)
    right.set_title(f"{title}, by kind", color=INK, fontsize=10)
    right.set_xlabel("layer")
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    figure.colorbar(shown, ax=right, pad=0.02).outline.set_visible(False)
    save(figure, path)


def layer_name(layer: int) -> str:
    """A layer's number; the embeddings' output is no layer."""
    return str(layer) if layer else "emb."


def draw_lines(axes: Any, rows: Sequence[Row], title: str,
               bounds: tuple[float | None, float | None] | None = None) -> None:
    """One panel of `lines`."""
    names = list(dict.fromkeys(map(label, rows)))
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if label(row) == name), key=lambda row: row["layer"])
        axes.plot([row["layer"] for row in mine], [row["value"] for row in mine], marker="o", markersize=4,
                  color=COLOURS[number % len(COLOURS)], label=name,
                  linestyle="-" if number < len(COLOURS) else "--")
    layers = sorted({row["layer"] for row in rows})
    step = -(-len(layers) // 14)
    axes.set_xticks(layers[::step], [layer_name(layer) for layer in layers[::step]])
    axes.set_xlabel("layer")
    if any(names):
        axes.legend(frameon=False, fontsize=9)
    tidy(axes, title, grid="y")
    low, high = bounds or (None, None)
    if rows and (low is not None or high is not None):
        values = [row["value"] for row in rows]
        least, most = min(values) if low is None else low, max(values) if high is None else high
        room = 0.06 * ((most - least) or 1)
        axes.set_ylim(least - (low is None) * room - (low is not None) * room / 3, most + room)
