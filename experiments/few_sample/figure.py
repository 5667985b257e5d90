"""The picture of a few_sample record: scores of all arms, and what each remedy changes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import figures
from experiments.few_sample.arms import ARMS, REMEDIES, Measured
from experiments.figures import COLOURS, CONSTANT, GREY, INK

COLOUR = {False: COLOURS[0], True: COLOURS[1]}  # without correction, with it
PAIRS = tuple(dict.fromkeys(key[1:] for key in ARMS))  # (re-initialised layers, more epochs), from left to right


def draw(about: dict[str, Any], measured: Sequence[Measured], path: Path) -> None:
    """A row a task: a dot a seed, and beside them the effects with their intervals.

    Args:
      about: of the record.
      measured: from `arms.of`.
      path: of the PNG.
    """
    if not measured:
        return
    figure, rows = figures.panels(len(measured), 2, width=5.2, height=3.4, width_ratios=(3, 2))
    few, many = sorted(map(float, about["settings"]["epochs"]))
    for (scores, effects), each in zip(rows, measured, strict=True):
        _scores(scores, each, few, many)
        _effects(effects, each)
    figures.legend(figure, [*(figures.dot(COLOUR[yes], f"{'' if yes else 'no '}bias correction, a dot a seed")
                              for yes in COLOUR), figures.cross(),
                            figures.line(GREY, "constant answer", linestyle="--", linewidth=1.1)], 4)
    model = Path(about["settings"]["model"]).name
    figures.save(figure, path, f"Remedies on few examples, {model}, {about['date']}")


def _scores(axes: Any, measured: Measured, few: float, many: float) -> None:
    """Two columns a pair of the other remedies: without correction and with it."""
    for place, pair in enumerate(PAIRS):
        for corrected, aside in ((False, -0.2), (True, 0.2)):
            if arm := measured.arms.get((corrected, *pair)):
                figures.seeds(axes, place + aside, arm.runs.values(), arm.runs.failed, COLOUR[corrected], wide=0.1)
    some = next(iter(measured.arms.values())).runs
    if some.baseline is not None:
        axes.axhline(some.baseline, **CONSTANT)
    axes.set_xticks(range(len(PAIRS)), [f"{many if longer else few:g} epochs{', top anew' * anew}"
                                        for anew, longer in PAIRS])
    axes.set_xlim(-0.6, len(PAIRS) - 0.4)
    figures.tidy(axes, f"{measured.task}: dev {some.metric}", grid="y")


def _effects(axes: Any, measured: Measured) -> None:
    """The mean of each with its 95 % interval."""
    for place, _ in enumerate(REMEDIES):
        found = measured.effect(place)
        if found:
            axes.plot(found.interval or [found.mean] * 2, [place] * 2, color=INK, linewidth=2)
            axes.plot([found.mean], [place], "o", color=INK, markersize=7)
            axes.annotate(f"{found.mean:+.3f}", (found.mean, place), xytext=(0, 8), textcoords="offset points",
                          ha="center", color=INK, fontweight="bold", fontsize=9)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(REMEDIES)), REMEDIES)
    axes.set_ylim(len(REMEDIES) - 0.5, -0.5)
    figures.tidy(axes, f"{measured.task}: what each remedy changes", "score with it less without, 95 %", grid="x")
