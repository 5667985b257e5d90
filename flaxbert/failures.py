"""What failed runs do differently: a picture of their diagnostics beside those of good ones."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxbert.drawing import COLOURS, FAILED, GREY, INK, pyplot, save, tidy

COLUMNS = 4


class Panel(NamedTuple):
    """One quantity over the steps.

    Attributes:
      title: what it is.
      names: of the values in a row whose squares add up to its square; of one alone, it itself.
      split: of the rows.
      share: it lies between 0 and 1; else its axis is logarithmic.
    """

    title: str
    names: Sequence[str]
    split: str = "diagnostics"
    share: bool = False


def panels(names: Iterable[str]) -> list[Panel]:
    """The panels that rows of diagnostics with these values allow, gradients last."""
    names = list(names)
    layers = sorted((n for n in names if n.startswith("grad_norm/layer_")), key=lambda n: int(n.split("_")[-1]))
    found = [Panel("training loss", ["loss"], "train"),
             Panel("entropy of predictions / log C", ["entropy_ratio"], share=True),
             Panel("pooler: outputs beyond ±0.99", ["saturation"], share=True),
             Panel("encoder: distance from its start",
                   [n for n in names if n.startswith("distance/") and n != "distance/head"])]
    chosen = dict.fromkeys(layers[i] for i in (0, len(layers) // 2, -1)) if layers else {}
    for name in (*chosen, "grad_norm/head"):
        found.append(Panel(f"gradient norm, {name.split('/')[1].replace('_', ' ')}", [name]))
    return [p for p in found if p.split == "train" or (p.names and {*p.names} <= {*names})]


def figure(rows: Sequence[Mapping[str, Any]], failed: Collection[int], path: Path, title: str = "") -> None:
    """A panel for each quantity over the steps: a thin line a run, a thick one their median, failed runs apart.

    Args:
      rows: of metrics.jsonl of all runs, with `seed`; those of diagnostics among them.
      failed: seeds of the runs that failed.
      path: of the PNG.
      title: above the picture.
    """
    plt = pyplot()
    shown = panels(next((row for row in rows if row["split"] == "diagnostics"), {}))
    seeds = {row["seed"] for row in rows}
    groups = {"good": (seeds - {*failed}, COLOURS[0]), "failed": (seeds & {*failed}, FAILED)}
    height = -(-len(shown) // COLUMNS)
    figure, grid = plt.subplots(height, COLUMNS, figsize=(3.2 * COLUMNS, 2.55 * height + 0.5), squeeze=False,
                                constrained_layout=True, sharex=True)
    for axes, panel in zip(grid.flat, shown, strict=False):
        for group, colour in groups.values():
            _lines(axes, [_curve(rows, seed, panel) for seed in sorted(group)], colour)
        _dress(axes, panel)
    gradients = [axes for axes, panel in zip(grid.flat, shown, strict=False) if panel.title.startswith("gradient")]
    limits = [y for axes in gradients for y in axes.get_ylim()]
    for axes in gradients:  # alike, so that the eye may go from layer to layer
        axes.set_ylim(min(limits), max(limits))
    for axes in grid.flat[len(shown):]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, len(shown) - COLUMNS):len(shown)]:
        axes.set_xlabel("step", fontsize=9, color=INK)
        axes.tick_params(labelbottom=True)
    lines = [plt.Line2D([], [], color=colour, linewidth=2.4) for _, colour in groups.values()]
    counts = [f"{len(group)} {name} run{'s' * (len(group) != 1)}" for name, (group, _) in groups.items()]
    figure.legend(lines, counts, loc="outside upper right", ncols=2, frameon=False, fontsize=10)
    if title:
        figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=12)
    save(figure, path)


def _curve(rows: Sequence[Mapping[str, Any]], seed: int, panel: Panel) -> dict[int, float]:
    """Step -> value of one run; nan where it is not finite, or has no logarithm."""
    mine = [row for row in rows if row["seed"] == seed and row["split"] == panel.split]
    values = [[np.nan if row.get(name) is None else row[name] for name in panel.names] for row in mine]
    found = {row["step"]: float(np.sqrt(np.square(value).sum())) for row, value in zip(mine, values, strict=True)}
    return found if panel.share else {step: value or np.nan for step, value in found.items()}


def _lines(axes: Any, curves: Sequence[Mapping[int, float]], colour: str) -> None:
    """Each run, and the median of those that are still there."""
    for curve in curves:
        axes.plot([*curve], [*curve.values()], color=colour, linewidth=0.7, alpha=0.3)
    steps = sorted({step for curve in curves for step in curve})
    values = [[v for curve in curves if np.isfinite(v := curve.get(step, np.nan))] for step in steps]
    axes.plot(steps, [np.median(v) if v else np.nan for v in values], color=colour, linewidth=2.2, zorder=3,
              solid_capstyle="round")


def _dress(axes: Any, panel: Panel) -> None:
    """Its scale, and how it looks."""
    if panel.share:
        axes.set_ylim(-0.02, 1.02)
    else:
        axes.set_yscale("log")
    tidy(axes, panel.title, grid="y")
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=8.5, color=GREY, labelcolor=INK)
    axes.minorticks_off()
