"""The pictures of an optimizers record: what the formulas say, and what runs do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import figures
from experiments.figures import COLOURS, CONSTANT, GREY, INK
from experiments.optimizers.steps import ARMS, Measured
from experiments.optimizers.theory import LONG, factor
from experiments.tables import written

COLOUR = {False: COLOURS[0], True: COLOURS[1]}  # without correction, with it
STYLE = {False: "--", True: "-"}  # without warm-up, with it


def draw(about: dict[str, Any], recipes: Mapping[str, Any], measured: Sequence[Measured], folder: Path) -> None:
    """Writes figure.png (the formulas, and beside them the measured ratio) and, of runs, steps.png.

    Args:
      about: of the record.
      recipes: recipe -> its row of the record.
      measured: from `steps.of`.
      folder: of the record.
    """
    ending = f"{Path(about['settings']['model']).name}, {about['date']}"
    compared = [each for each in measured if each.ratios(False) is not None]
    figure, [axes] = figures.panels(1, 1 + bool(recipes) + bool(compared), width=4.7)
    _factor(axes[0])
    if compared:
        _ratios(axes[1], compared)
    if recipes:
        _recipes(axes[-1], recipes)
    figures.save(figure, folder / "figure.png", f"Adam without bias correction, {ending}")
    if measured:
        _steps(about, measured, folder / "steps.png",
               f"First steps at a peak rate of {written(about['settings']['rate'])}, {ending}")


def _factor(axes: Any) -> None:
    """By how much a step is too large, on a scale of powers of ten; dots where the text speaks of it."""
    steps, values = np.arange(1, LONG + 1), factor(LONG)
    axes.plot(steps, values, color=COLOURS[0], linewidth=1.8)
    for step, aside in ((1, (8, -4)), (int(values.argmax()) + 1, (0, 7)), (100, (8, 3)), (1000, (0, -24))):
        axes.plot([step], [values[step - 1]], "o", color=COLOURS[0], markersize=5)
        axes.annotate(f"{values[step - 1]:.2f} at step {step}", (step, values[step - 1]), xytext=aside,
                      textcoords="offset points", fontsize=9, color=INK, ha="left" if aside[0] else "center")
    axes.axhline(1, **CONSTANT)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.15 * values.max())
    figures.tidy(axes, "the formula: a step without correction\nover the same step with it", "step", "times")


def _ratios(axes: Any, measured: Sequence[Measured]) -> None:
    """The measured ratio without warm-up, and the formula's as dashes."""
    longest = 0
    for each, colour in zip(measured, COLOURS[2:] + COLOURS[:2], strict=False):
        ratios = each.ratios(False)
        longest = max(longest, ratios.shape[1])
        figures.band(axes, np.arange(1, ratios.shape[1] + 1), ratios, colour, label=each.task)
    axes.plot(np.arange(1, longest + 1), factor(longest), label="the formula", color=INK, linestyle="--",
              linewidth=1.2)
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize=9)
    figures.tidy(axes, "measured, without warm-up: root mean square\nof the updates, median and range of seeds",
                 "step", "times")


def _recipes(axes: Any, recipes: Mapping[str, Any]) -> None:
    """Sizes of steps with a constant gradient; recipes that have one schedule share a colour."""
    alike: list[tuple[np.ndarray, list[str]]] = []
    for name, row in recipes.items():
        size = np.array(row["with"])
        names = next((names for other, names in alike if np.allclose(size, other, atol=1e-3)), None)
        if names is None:
            alike.append((size, names := []))
        names.append(name)
    # Where schedules meet, the narrower line lies on the wider one.
    for (size, names), colour, width in zip(alike, COLOURS, (3.6, 2.4, 1.3, 0.8), strict=False):
        x = np.arange(1, len(size) + 1)
        axes.plot(x, recipes[names[0]]["without"], color=colour, linestyle="--", linewidth=width)
        axes.plot(x, size, color=colour, linewidth=width, label=", ".join(names))
    handles = [*axes.get_legend_handles_labels()[0],
               figures.line(GREY, "with correction"), figures.line(GREY, "without", linestyle="--")]
    axes.legend(handles=handles, frameon=False, fontsize=9)
    axes.set_ylim(0, None)
    figures.tidy(axes, "size of a step of the recipes,\nwhere the gradient is always the same", "step",
                 "of the peak learning rate")


def _steps(about: Mapping[str, Any], measured: Sequence[Measured], path: Path, title: str) -> None:
    """A row a task: sizes of updates, training losses, scores."""
    figure, rows = figures.panels(len(measured), 3, width=4.4, height=3.4)
    for (sizes, losses, scores), each in zip(rows, measured, strict=True):
        runs = [arm.runs() for arm in each.arms.values()]
        for at, (arm, of) in enumerate(zip(each.arms.values(), runs, strict=True)):
            colour, style = COLOUR[arm.key[0]], STYLE[arm.key[1]]
            x = np.arange(1, len(arm.rates) + 1)
            figures.band(sizes, x, arm.updates, colour, linestyle=style)
            figures.band(losses, x, smooth(arm.losses), colour, linestyle=style)
            figures.seeds(scores, at, of.values(), of.failed, colour)
        figures.tidy(sizes, f"{each.task}: root mean square of the updates", "step", "of the peak learning rate")
        sizes.set_ylim(0, None)
        figures.tidy(losses, f"{each.task}: training loss, mean of {WINDOW} steps", "step", "nats")
        scores.axhline(runs[0].baseline, **CONSTANT)
        scores.set_xticks(range(len(runs)), [ARMS[arm.key] for arm in each.arms.values()])
        scores.set_xlim(-0.6, len(runs) - 0.4)
        figures.tidy(scores, f"{each.task}: dev {runs[0].metric}", grid="y")
    figures.legend(figure, [
        *(figures.line(COLOUR[corrected], f"{'correction' if corrected else 'no correction'}, "
                                          f"{'warm-up' if warm else 'no warm-up'}", linestyle=STYLE[warm])
          for corrected, warm in ARMS), figures.cross(), figures.line(label="constant answer", colour=GREY,
                                                                     linestyle="--", linewidth=1.1)], 6)
    figures.save(figure, path, title)


WINDOW = 8  # steps of the mean of losses


def smooth(losses: np.ndarray) -> np.ndarray:
    """[n, T] mean of each step's loss and those before it, up to `WINDOW` of them; nan where one is."""
    return np.stack([losses[:, max(0, t + 1 - WINDOW):t + 1].mean(axis=1) for t in range(losses.shape[1])], axis=1)
