"""The picture of a fine_tuning record: every seed a dot, beside what it has to be above."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.figures import COLOURS, CONSTANT, DOT, GREY, INK, dot, legend, line, pyplot, save, tidy
from experiments.fine_tuning.published import in_metric
from experiments.fine_tuning.runs import Measured
from experiments.tables import written

BAR = dict(color=INK, marker="|", s=260, linewidths=2)
PUBLISHED = dict(facecolors="none", edgecolors=GREY, marker="D", s=34, linewidths=1.4)


def draw(about: dict[str, Any], measured: Sequence[Measured], path: Path) -> None:
    """A line a task; on the right, where there are several rates, the scores by rate.

    Args:
      about: of the record.
      measured: from `runs.by_task`.
      path: of the PNG.
    """
    shown, several = [each for each in measured if each.scores], [each for each in measured if len(each.rates) > 1]
    if not shown:
        return
    figure, axes = pyplot().subplots(
        1, 1 + bool(several), figsize=(8 + 3.2 * bool(several), 2.3 + 0.42 * len(shown)), squeeze=False,
        constrained_layout=True, width_ratios=(2.4, 1) if several else (1,))
    _scores(axes[0, 0], shown)
    if several:
        _rates(axes[0, 1], several)
    handles = [dot(COLOURS[0], "from pre-trained weights, a dot a seed"), dot(COLOURS[1], "from random weights"),
               line(INK, "the best constant answer", linestyle="", marker="|", markersize=12, markeredgewidth=2)]
    if any(in_metric(each.task, each.metric) for each in shown):
        handles.append(line(GREY, "BERT-base, all training examples, published [S]", linestyle="", marker="D",
                            markerfacecolor="none", markersize=6))
    legend(figure, handles, 2)
    save(figure, path, f"One recipe on all tasks, {Path(about['settings']['model']).name}, {about['date']}")


def _scores(axes: Any, measured: Sequence[Measured]) -> None:
    for y, each in enumerate(measured):
        for score, style in ((each.baseline, BAR), (in_metric(each.task, each.metric), PUBLISHED)):
            if score is not None:
                axes.scatter(score, y, **style)
        for scores, colour in ((each.random, COLOURS[1]), (each.scores, COLOURS[0])):
            axes.scatter(scores, [y] * len(scores), color=colour, **DOT)
    axes.set_yticks(range(len(measured)), [f"{each.task}  ({each.metric})" for each in measured])
    axes.set_ylim(len(measured) - 0.5, -0.5)
    tidy(axes, "", "dev, after the last step")


def _rates(axes: Any, measured: Sequence[Measured]) -> None:
    for colour, each in zip((COLOURS[0], *COLOURS[2:]), measured, strict=False):
        for rate, scores in each.rates.items():
            axes.scatter([rate] * len(scores), scores, color=colour, **DOT)
        axes.plot([*each.rates], [sum(scores) / len(scores) for scores in each.rates.values()], color=colour,
                  linewidth=1.6)
        if each.baseline is not None:
            axes.axhline(each.baseline, **{**CONSTANT, "color": INK})
    rates = sorted({rate for each in measured for rate in each.rates})
    axes.set_xscale("log")
    axes.set_xticks(rates, [*map(written, rates)])
    axes.minorticks_off()
    tidy(axes, ", ".join(f"{each.task}, {each.metric}" for each in measured), "learning rate")
