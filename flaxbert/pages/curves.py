"""Learning curves of arms in the charts of a page."""

from collections.abc import Sequence

from flaxbert.pages.arms import Arm, Run
from flaxbert.pages.charts import Line, chart, legend, median
from flaxbert.pages.html import Html, Part


def curves(arms: Sequence[Arm]) -> list[Part]:
    """Loss and the main metric over the steps; tasks that are measured otherwise have charts of their own."""
    found: list[Part] = []
    kinds = list(dict.fromkeys((arm.first.task, arm.first.metric) for arm in arms))
    for task, metric in kinds:
        mine = [(number, arm) for number, arm in enumerate(arms)
                if (arm.first.task, arm.first.metric) == (task, metric)]
        of = f"{task}: " if len(kinds) > 1 else ""
        losses = [line for number, arm in mine for line in _losses(arm, number)]
        scores = [line for number, arm in mine for line in _lines(arm, number, "dev", metric)]
        found.append(Html("div", chart(f"{of}loss", losses), chart(f"{of}dev {metric}", scores), class_="charts"))
    if not any(part.parts for part in found):
        return [Html("p", "There is no finite loss or score to draw.")]
    seeds = any(len(arm.runs) > 1 for arm in arms)
    alone = any(len(arm.runs) == 1 for arm in arms)
    note = "; ".join(["thin: a seed; thick: the median of those that are there"] * seeds
                     + ["pale: training; with dots: dev"] * alone)
    entries = [(arm.name + (f" ({len(arm.runs)} seeds)" if len(arm.runs) > 1 else ""), number)
               for number, arm in enumerate(arms)]
    return [legend(entries if len(arms) > 1 or seeds else [], note), *found]


def _losses(arm: Arm, colour: int) -> list[Line]:
    """Dev, and of few runs training, too."""
    training = _lines(arm, colour, "train", "loss")
    if len(arm.runs) > 1:
        return training
    return [Line(line.name, line.points, colour, "faint", line.lost) for line in training] + [
        Line(line.name, line.points, colour) for line in _lines(arm, colour, "dev", "loss")]


def _lines(arm: Arm, colour: int, split: str, metric: str) -> list[Line]:
    """A line a run, and their median."""
    found = [Line(arm.name if len(arm.runs) == 1 else f"{arm.name}, seed {run.seed}", points, colour,
                  "line" if len(arm.runs) == 1 else "thin", split == "train" and run.status == "failed")
             for run in arm.runs if (points := _points(run, split, metric))]
    middle = median([dict(line.points) for line in found]) if len(arm.runs) > 1 else []
    return [*found, Line(f"{arm.name}, median", middle, colour, "thick")] if middle else found


def _points(run: Run, split: str, metric: str) -> list[tuple[int, float | None]]:
    return [(row["step"], row.get(metric)) for row in run.of(split)]
