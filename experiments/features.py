"""What the studies of features share: a head on the frozen model, and beside it the whole model fine-tuned."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import figures, training
from experiments.tables import limited, scored, where
from flaxbert.errors import InputError

FINE_TUNED = "fine-tuned"

FLAGS = {**training.FLAGS, "seeds": "Runs of each kind, seeds 0, 1, ...", "epochs": "Epochs of fine-tuning.",
         "rate": "Peak learning rate of fine-tuning.", "batch_size": "Examples a step of fine-tuning.",
         "feature_epochs": "Epochs of the heads on the frozen model.", "feature_rate": "Their peak learning rate.",
         "feature_batch_size": "Examples a step of theirs.",
         "head_width": "Units of the BiLSTM in each direction; 0: half the model's width.",
         "cache_dir": "Where the states of the frozen model are kept."}

_COMMON = {"rate": 5e-5, "feature_rate": 1e-3, "head_width": 0, "batch_size": 16, "feature_batch_size": 32,
           "cache_dir": "~/.cache/flaxbert/activations", "epochs": 3.0}

# A study adds its own settings, `seeds` and `limits` among them.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {**_COMMON, "model": "bundled", "epochs": 1.0, "feature_epochs": 2.0, "eval_examples": 64},
    "small": {**_COMMON, "model": "minilm", "feature_epochs": 8.0, "eval_examples": 2000},
    "paper": {**_COMMON, "model": "bert-base-cased", "feature_epochs": 20.0, "eval_examples": 0},
}


def points(study: str, settings: Mapping[str, Any], flag: str,
           runs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of every kind.

    Args:
      study: its name.
      settings: of the study.
      flag: that names the tasks.
      runs: (task, how) of each.

    Raises:
      InputError: no runs, no seeds, or a task that studies have no data of.
    """
    runs = list(runs)
    if settings["seeds"] < 1 or not runs:
        raise InputError("--seeds: at least 1" if runs else f"{study}: nothing is named that could be measured")
    training.limits(settings["limits"])
    missing = training.missing(study, {flag: dict.fromkeys(task for task, _ in runs)})
    return [{"task": task, "how": how, "seed": seed} for seed in range(settings["seeds"])
            for task, how in runs if task not in missing]


def measure(point: Mapping[str, Any], settings: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the last step on dev: nothing is chosen there.

    Args:
      point: task, how (fine-tuned, or anything else for the frozen model) and seed.
      settings: of the study.
      head: settings of a `Config` for the BiLSTM on the frozen model: the layers that it reads, what is above it.
    """
    if point["how"] == FINE_TUNED:
        strategy = {"strategy": "full", "epochs": settings["epochs"], "learning_rate": settings["rate"]}
    else:  # float16: half the disk
        strategy = {"strategy": "features", "epochs": settings["feature_epochs"],
                    "learning_rate": settings["feature_rate"], "batch_size": settings["feature_batch_size"],
                    "head": "bilstm", "head_width": settings["head_width"], "cache_dtype": "float16",
                    "cache_dir": settings["cache_dir"], **head}
    return training.trained({**training.settings_of(point["task"], dict(settings)), **strategy,
                             "seed": point["seed"]})


def how_measured(about: Mapping[str, Any]) -> str:
    """Where a record was measured and how, in two sentences.

    Args:
      about: of the record.
    """
    settings = about["settings"]
    return (f"{where(dict(about))}: {settings['model']}{limited(settings)}. Features: "
            f"{settings['feature_epochs']:g} epochs at {settings['feature_rate']:g} in batches of "
            f"{settings['feature_batch_size']}; fine-tuned: {settings['epochs']:g} at {settings['rate']:g} in "
            f"batches of {settings['batch_size']}. "
            f"{scored(settings).capitalize()} after the last step, mean ± sample standard deviation (number of "
            "seeds); the spread of two rows is the larger of their deviations.")


class Line(NamedTuple):
    """A line of the picture.

    Attributes:
      name: on the left.
      ahead: by seed, the score less the mean of fine-tuning.
      published: what the paper has for that; None: nothing.
    """

    name: str
    ahead: Sequence[float]
    published: float | None


def draw(about: Mapping[str, Any], title: str, paper: str, rows: Sequence[Line], path: Path) -> None:
    """How far features are ahead of fine-tuning: a dot a seed, a bar at the mean, a diamond for the paper.

    Args:
      about: of the record.
      title: of the panel.
      paper: what to call the diamonds.
      rows: from the top; none: no picture.
      path: of the PNG.
    """
    if not rows:
        return
    here, theirs = figures.COLOURS[:2]
    figure, panels = figures.panels(1, 1, width=7.2, height=1.1 + 0.38 * len(rows))
    axes = panels[0, 0]
    for y, row in enumerate(rows):
        axes.scatter([100 * value for value in row.ahead], [y] * len(row.ahead), color=here, **figures.DOT)
        axes.scatter([100 * statistics.fmean(row.ahead)], [y], marker="|", s=190, color=here, linewidths=2)
        if row.published is not None:
            axes.scatter([100 * row.published], [y], marker="D", s=34, facecolors="none", edgecolors=theirs,
                         linewidths=1.5, zorder=3)
    axes.axvline(0, color=figures.INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    figures.tidy(axes, title, "points ahead of fine-tuning", grid="x")
    handles = [figures.dot(here, "a seed here"),
               figures.line(theirs, paper, linestyle="", marker="D", markersize=6, markerfacecolor="none",
                            markeredgewidth=1.5)]
    figures.legend(figure, handles[:1 + any(row.published is not None for row in rows)], 2)
    figures.save(figure, path, f"Features against fine-tuning, {about['settings']['model']}, {about['date']}")
