"""The picture of a layer_change record: the layers after the last step, and their thirds over the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.figures import COLOURS, GREY, band, legend, line, panels, save, tidy
from experiments.layer_change.runs import DISTANCE, OTHER, RANDOM, RSA, SHIFT, Measured, thirds

OWN_LINE, OTHER_LINE = dict(marker="o", markersize=4), dict(linestyle=":", marker="o", markersize=3)
RANDOM_LINE = dict(linestyle="--", linewidth=1.3)
LEAST = 1e-5  # of 1 - RSA and 1 - cosine: below is no change


def draw(about: dict[str, Any], measured: Sequence[Measured], path: Path) -> None:
    """A column a task: 1 - RSA and 1 - cosine by layer, relative distance by layer, thirds over the run.

    Lines are medians over the seeds, bands go from the lowest to the highest.

    Args:
      about: of the record.
      measured: from `runs.by_task`.
      path: of the PNG.
    """
    if not measured:
        return
    figure, axes = panels(4, len(measured), width=3.5, height=2.5, sharey="row")
    for column, each in enumerate(measured):
        for row, (measure, name) in enumerate(((RSA, "1 - RSA"), (SHIFT, "1 - cosine"))):
            _by_layer(axes[row, column], each, measure, f"{each.task}, {name}")
        _distance(axes[2, column], each)
        _over_steps(axes[3, column], each)
    for row in axes[:2]:
        row[0].set_yscale("log")
        row[0].set_ylim(LEAST, 1.5)
    for row in axes[2:]:
        row[0].set_ylim(0, None)
    handles = [line(COLOURS[0], "own text", **OWN_LINE), line(COLOURS[1], "other text", **OTHER_LINE),
               line(GREY, "own text, random directions as long", **RANDOM_LINE),
               line(COLOURS[2], "bottom third"), line(COLOURS[3], "top third"),
               line(GREY, "band: from the lowest to the highest seed", linewidth=7, alpha=0.3)]
    legend(figure, handles, 6)
    save(figure, path, f"What fine-tuning changes, layer by layer, {Path(about['settings']['model']).name}, "
                       f"{about['date']}")


def _by_layer(axes: Any, each: Measured, measure: str, title: str) -> None:
    for which, colour, style in (({"direction": RANDOM}, GREY, RANDOM_LINE),
                                 ({"text": OTHER}, COLOURS[1], OTHER_LINE), ({}, COLOURS[0], OWN_LINE)):
        if (values := each.changes(measure, **which)) is not None:
            band(axes, np.arange(values.shape[1]), values, colour, **style)
    tidy(axes, title, "layer")
    axes.locator_params(axis="x", integer=True)


def _distance(axes: Any, each: Measured) -> None:
    if (values := each.changes(DISTANCE)) is not None:
        band(axes, np.arange(values.shape[1]), values, COLOURS[0], **OWN_LINE)
    tidy(axes, "relative distance of weights", "layer (0: embeddings)")
    axes.locator_params(axis="x", integer=True)


def _over_steps(axes: Any, each: Measured) -> None:
    steps = each.runs[0].steps
    found = [each.changes(RSA, step=step) for step in steps]
    if not any(values is None for values in found):
        both = np.array([[thirds(values) for values in at] for at in found])  # [steps, n, 2]
        shares = np.array(steps) / each.runs[0].total
        for side, colour in enumerate((COLOURS[2], COLOURS[3])):
            band(axes, shares, both[:, :, side].T, colour, marker="o", markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shares, [f"{share:.2g}" for share in shares])
        axes.minorticks_off()
    tidy(axes, "1 - RSA, own text, over the run", "share of the steps")
