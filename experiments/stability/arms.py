"""What the record keeps of a point's runs, and how the report reads it.

Letters: n seeds, N examples.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxbert import tasks
from flaxbert.config import Config
from flaxbert.records import of_seed, read_metrics, read_result
from flaxbert.statistics import distribution
from flaxbert.statistics.baseline import majority_baseline
from flaxbert.statistics.runs import Runs
from flaxbert.tasks.base import Examples, Task
from flaxbert.tasks.submission import read_submission

# (many epochs, bias correction) of an arm; the paper calls the first one Devlin and the last one ours.
PLAIN, CORRECTED, LONGER, BOTH = (False, False), (False, True), (True, False), (True, True)


def found(folder: Path, config: Config) -> dict[str, Any]:
    """What a point's row holds.

    Args:
      folder: of all seeds.
      config: of all seeds, with --predict_test.

    Returns:
      metric: the main one; baselines: metric -> what the best constant answer scores on dev; constant_loss: what
      the classes' shares, guessed each time, lose on the training examples, in nats; labels: a digit for each
      example that is predicted; runs: of each seed its scores on dev, its loss over the last epoch of training
      (dropout on), and a digit for each prediction; None where the loss was not finite.
    """
    def split(name: str) -> tuple[Task, Examples]:
        task, examples, _ = tasks.load_split(config, name)
        return task, examples.head(config.max_train_examples if name == "train" else config.max_eval_examples)
    (task, train), (_, dev) = split("train"), split("dev")
    predicted = split("test")[1] if task.generate else dev  # the toy tasks alone have a test split here
    shares = np.bincount(train.labels)[np.unique(train.labels)] / len(train)
    log = [row for row in read_metrics(folder) if row["split"] == "train" and row["epoch"] > config.epochs - 1]

    def run(seed: int) -> dict[str, Any]:
        own = of_seed(folder, seed)
        if (result := read_result(own))["status"] == "failed":
            return {"seed": seed, "dev": None, "training_loss": None, "predicted": None}
        [file] = (own / "predictions").iterdir()
        return {"seed": seed, "dev": result["metrics"]["dev"],
                "training_loss": float(np.mean([row["loss"] for row in log if row["seed"] == seed])),
                "predicted": digits(read_submission(task, file, predicted.ids))}
    return {"metric": task.main_metric,
            "baselines": {metric: majority_baseline(dataclasses.replace(task, metrics=(metric,)), dev)
                          for metric in task.metrics},
            "constant_loss": float(-(shares * np.log(shares)).sum()), "labels": digits(predicted.labels),
            "runs": [run(seed) for seed in config.seeds]}


def digits(classes: np.ndarray) -> str:
    """A digit for each class number: a record holds many of them."""
    return "".join(map(str, classes))


def classes(digits: str) -> np.ndarray:
    """The inverse of `digits`."""
    return np.array([*map(int, digits)])


@dataclasses.dataclass(frozen=True)
class Arm:
    """The runs of one point; `row` is that of the record."""

    row: Mapping[str, Any]

    @property
    def task(self) -> str:
        return self.row["point"]["task"]

    @property
    def epochs(self) -> float:
        return self.row["point"]["epochs"]

    @property
    def corrected(self) -> bool:
        """Whether with bias correction."""
        return self.row["point"]["bias_correction"]

    @property
    def rate(self) -> float:
        return self.row["point"]["rate"]

    @property
    def name(self) -> str:
        """What pictures call it."""
        return f"{self.epochs:g} epochs\n{'corrected' if self.corrected else 'no correction'}"

    @property
    def losses(self) -> np.ndarray:
        """[n] of the last epoch of training; nan where the loss was not finite."""
        return np.array([math.nan if run["training_loss"] is None else run["training_loss"]
                         for run in self.row["runs"]])

    def runs(self, metric: str = "") -> Runs:
        """Scores on dev by seed, of the main metric or of another."""
        metric = metric or self.row["metric"]
        return Runs(self.name, self.task, metric, {run["seed"]: run["dev"][metric] if run["dev"] else math.nan
                                                   for run in self.row["runs"]}, self.row["baselines"][metric])

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The point, and all that its table says of it."""
        runs, known = self.runs(), self.losses[np.isfinite(self.losses)]
        return {**self.row["point"], "metric": runs.metric, "baseline": runs.baseline,
                **distribution.summary(runs.values(), runs.failed),
                "training_loss": float(np.median(known)) if len(known) else None}


class Measured(NamedTuple):
    """What there is of one task.

    Attributes:
      task: its name.
      arms: (many epochs, bias correction) -> arm.
      grid: (rate, bias correction) -> arm of few epochs, those of the arms' own rate among them.
    """

    task: str
    arms: dict[tuple[bool, bool], Arm]
    grid: dict[tuple[float, bool], Arm]

    @property
    def every(self) -> list[Arm]:
        """All of them, each once."""
        return [*self.arms.values(), *(arm for arm in self.grid.values() if arm not in self.arms.values())]

    @property
    def rates(self) -> list[float]:
        """Of the grid, from the lowest."""
        return sorted({rate for rate, _ in self.grid})


def of(rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Measured]:
    """The rows of a record by task, those of the settings first; of two rows of an arm the later one counts."""
    every, few = [Arm(row) for row in rows], min(map(float, settings["epochs"]))
    names = dict.fromkeys((*settings["tasks"], *(arm.task for arm in every)))
    by_task = [(task, [arm for arm in every if arm.task == task]) for task in names]
    return [Measured(task, dict(sorted({(arm.epochs != few, arm.corrected): arm for arm in mine
                                        if arm.row["point"]["part"] == "arms"}.items())),
                     {(arm.rate, arm.corrected): arm for arm in mine if arm.epochs == few})
            for task, mine in by_task if mine]
