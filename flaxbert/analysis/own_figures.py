"""The figures of analyses whose rows are no lines over the layers: each by the name of its analysis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert.analysis.base import Row, names, only
from flaxbert.analysis.figures import layer_name
from flaxbert.analysis.models import SIDES
from flaxbert.drawing import COLOURS, GREY, INK, pyplot, save, tidy

COLOUR_OF = dict(zip(SIDES, COLOURS, strict=False))
MARKS = {"before": ("o", "pre-trained"), "after": ("*", "fine-tuned"), "others": ("X", "the third")}


def heads(rows: Sequence[Row], path: Path) -> None:
    """A map for each text: layers from bottom to top, heads from left to right, the darker the more.

    Args:
      rows: of attention.
      path: of the PNG.
    """
    texts, layers, of_layer = (names(rows, field) for field in ("text", "layer", "head"))
    figure, panels = pyplot().subplots(1, len(texts), squeeze=False, constrained_layout=True, figsize=(
        1.4 + len(texts) * max(2.6, 0.8 + 0.34 * len(of_layer)), max(2.6, 1.4 + 0.3 * len(layers))))
    most = max(row["value"] for row in rows) or 1.0
    for axes, text in zip(panels[0], texts, strict=True):
        cells = np.zeros((len(layers), len(of_layer)))
        for row in only(rows, text=text):
            cells[row["layer"] - 1, row["head"] - 1] = row["value"]
        shown = axes.imshow(cells, cmap="Blues", vmin=0, vmax=most, aspect="auto", origin="lower")
        axes.set_xticks(range(len(of_layer)), of_layer)
        axes.set_yticks(range(len(layers)), layers)
        axes.set(xlabel="head", ylabel="layer")
        axes.set_title(f"{text} text", color=INK, fontsize=10)
        axes.tick_params(length=0, labelsize=9)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=panels[0], pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("divergence, nats", color=INK, fontsize=9)
    save(figure, path)


def probes(rows: Sequence[Row], path: Path) -> None:
    """A panel for each task and probe: accuracy before and after, of the true labels and of the control's.

    Args:
      rows: of probes.
      path: of the PNG.
    """
    tasks, kinds = names(rows, "task"), names(rows, "probe")
    figure, panels = pyplot().subplots(len(kinds), len(tasks), squeeze=False, constrained_layout=True, sharex=True,
                                       sharey="col", figsize=(1 + 4.2 * len(tasks), 0.8 + 2.6 * len(kinds)))
    for i, probe in enumerate(kinds):
        for axes, task in zip(panels[i], tasks, strict=True):
            mine = only(rows, task=task, probe=probe)
            for side in SIDES:
                for measure, style in (("accuracy", "-"), ("control", ":")):
                    drawn = only(mine, side=side, measure=measure)
                    axes.plot([row["layer"] for row in drawn], [row["value"] for row in drawn], style, marker="o",
                              markersize=4, color=COLOUR_OF[side],
                              label=side if style == "-" else f"{side}, control")
            axes.axhline(mine[0]["majority"], color=GREY, linestyle="--", linewidth=1, zorder=1,
                         label="most frequent label")
            layers = names(mine, "layer")
            axes.set_xticks(layers[::-(-len(layers) // 14)], map(layer_name, layers[::-(-len(layers) // 14)]))
            tidy(axes, f"{task}, {probe} probe: accuracy", grid="y")
    for axes in panels[-1]:
        axes.set_xlabel("layer")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center",
                  ncols=5 if len(tasks) > 1 else 3)
    save(figure, path)


def surgery(rows: Sequence[Row], path: Path) -> None:
    """The main metric and the loss over the number of layers that went back, from the bottom and from the top.

    Args:
      rows: of surgery.
      path: of the PNG.
    """
    figure, panels = pyplot().subplots(1, 2, figsize=(9.4, 3.6), constrained_layout=True)
    for axes, measure in zip(panels, (names(rows, "measure")[0], "loss"), strict=True):
        for end, colour in zip(names(rows, "end"), COLOURS, strict=False):
            mine = only(rows, end=end, measure=measure)
            axes.plot([row["reverted"] for row in mine], [row["value"] for row in mine], marker="o", markersize=4,
                      color=colour, label=f"{end} layers" + (" and embeddings" if end == "bottom" else ""))
        for row in only(rows, measure=measure, reverted=0)[:1]:
            axes.axhline(row["value"], color=GREY, linestyle="--", linewidth=1, zorder=1, label="as fine-tuned")
        axes.set_xlabel("layers that are pre-trained again")
        axes.locator_params(axis="x", integer=True)
        tidy(axes, f"{rows[0]['task']}, dev {measure}", grid="y")
    panels[0].legend(frameon=False, fontsize=9)
    save(figure, path)


def forgetting(rows: Sequence[Row], path: Path) -> None:
    """Two bars for each text, before and after: perplexity, and accuracy of masked words.

    Args:
      rows: of forgetting.
      path: of the PNG.
    """
    measures, texts = ("perplexity", "mlm_accuracy"), names(rows, "text")
    figure, panels = pyplot().subplots(1, 2, figsize=(7.6, 3.4), constrained_layout=True)
    for axes, measure in zip(panels, measures, strict=True):
        for number, side in enumerate(SIDES):
            mine = only(rows, side=side, measure=measure)
            bars = axes.bar([texts.index(row["text"]) + 0.36 * (number - 0.5) for row in mine],
                            [row["value"] for row in mine], 0.32, color=COLOUR_OF[side], label=side)
            axes.bar_label(bars, [f"{row['value']:.3g}" for row in mine], fontsize=9, color=INK, padding=2)
        values = [row["value"] for row in only(rows, measure=measure)]
        if measure == "perplexity" and max(values) > 20 * min(values):
            axes.set_yscale("log")
        axes.set_xticks(range(len(texts)), [f"{text} text" for text in texts])
        axes.margins(y=0.15)
        tidy(axes, f"masked words: {measure.removeprefix('mlm_')}", grid="y")
    panels[0].legend(frameon=False, fontsize=9)
    save(figure, path)


def landscape(rows: Sequence[Row], path: Path) -> None:
    """Loss and main metric on the line; below, where there is a plane, both as contours with the models marked.

    Args:
      rows: of landscape.
      path: of the PNG.
    """
    measures = (names(rows, "measure")[0], "loss")
    measures = measures[::-1] if measures[0] != "loss" else measures[:1]
    plane = only(rows, kind="plane")
    figure, panels = pyplot().subplots(1 + bool(plane), len(measures), squeeze=False, constrained_layout=True,
                                       figsize=(9.6, 3.5 + 4.4 * bool(plane)),
                                       height_ratios=(3.5, 4.4) if plane else None)
    for column, measure in enumerate(measures):
        axes, mine = panels[0, column], only(rows, kind="line", measure=measure)
        axes.plot([row["at"] for row in mine], [row["value"] for row in mine], color=INK, linewidth=1.4)
        for at, side in enumerate(SIDES):
            for row in mine:
                if row["at"] == at:
                    axes.plot(at, row["value"], MARKS[side][0], color=COLOUR_OF[side], label=MARKS[side][1],
                              markersize=11 if side == "after" else 7)
        axes.set_xlabel("a: 0 pre-trained, 1 fine-tuned")
        tidy(axes, f"{rows[0]['task']}, dev {measure} on the line", grid="y")
        if plane:
            _plane(figure, panels[1, column], only(plane, measure=measure), measure)
    panels[0, 0].legend(frameon=False, fontsize=9)
    save(figure, path)


def _plane(figure: Any, axes: Any, rows: Sequence[Row], measure: str) -> None:
    """Contours of one measure; of a loss, the highest tenth has one colour."""
    grid = [row for row in rows if "corner" not in row]
    x, y = (np.array(sorted({row[name] for row in grid})) for name in "xy")
    cells = np.full((len(y), len(x)), np.nan)
    for row in grid:
        cells[np.searchsorted(y, row["y"]), np.searchsorted(x, row["x"])] = row["value"]
    low, high = np.nanmin(cells), np.nanquantile(cells, 0.9) if measure == "loss" else np.nanmax(cells)
    levels = np.linspace(low, high if high > low else low + 1e-6, 15)
    shown = axes.contourf(x, y, cells, levels, cmap="Blues", extend="max" if measure == "loss" else "neither")
    axes.contour(x, y, cells, levels, colors="white", linewidths=0.4)
    for row in rows:
        if "corner" in row:
            mark, label = MARKS[row["corner"]]
            axes.plot(row["x"], row["y"], mark, color=COLOURS[[*MARKS].index(row["corner"])], linestyle="",
                      markersize=15 if mark == "*" else 11, markeredgecolor="white",
                      label=f"{label}: {row['value']:.3g}")
    # A square of the picture is one of the parameters, unless that would leave a thin strip.
    sides = np.ptp(x), np.ptp(y)
    to_scale = max(sides) < 2.5 * min(sides)
    if to_scale:
        axes.set_aspect("equal")
    axes.set(xlabel="distance of parameters" + ("" if to_scale else ", axes not to one scale"), ylabel="distance")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3,
                handletextpad=0.2, columnspacing=1.2)
    tidy(axes, f"dev {measure} on the plane", grid="y")
    axes.grid(False)
    bar = figure.colorbar(shown, ax=axes, pad=0.02, format="%.2g")
    bar.outline.set_visible(False)
