"""The cross product of three remedies, and what each of them does over all settings of the other two.

Letters: n seeds.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from experiments.paired import Difference
from experiments.seeds import contrast, runs_of
from flaxbert.statistics import distribution
from flaxbert.statistics.runs import Runs

REMEDIES = ("bias correction", "re-initialised layers", "more epochs")
# (bias correction, re-initialised layers, more epochs) of an arm; epochs change last.
Key = tuple[bool, bool, bool]
ARMS: tuple[Key, ...] = tuple(sorted(itertools.product((False, True), repeat=3), key=lambda key: key[::-1]))
NONE, ALL = (False,) * 3, (True,) * 3


@dataclasses.dataclass(frozen=True)
class Arm:
    """The runs of one point; `row` is that of the record."""

    row: Mapping[str, Any]
    few: float  # epochs of the shorter arms

    @property
    def key(self) -> Key:
        """One of `ARMS`."""
        point = self.row["point"]
        return point["bias_correction"], point["reinit_layers"] > 0, point["epochs"] > self.few

    @cached_property
    def runs(self) -> Runs:
        """Scores on dev by seed."""
        return runs_of(self.row, " ".join(f"{'+' if yes else '-'}{name}" for yes, name in zip(
            self.key, REMEDIES, strict=True)))

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The point, and all that its table says of it."""
        return {**self.row["point"], "metric": self.runs.metric, "baseline": self.runs.baseline,
                **distribution.summary(self.runs.values(), self.runs.failed)}


class Measured(NamedTuple):
    """What there is of one task: a key of `ARMS` -> arm."""

    task: str
    arms: dict[Key, Arm]

    def effect(self, remedy: int) -> Difference | None:
        """What a remedy changes: the mean of the arms with it less that of those without, seed by seed.

        Args:
          remedy: its place in `REMEDIES`.

        Returns:
          above 0 where it helps, whatever the metric; None unless all eight arms are there.
        """
        return self.contrast({key: (1 if key[remedy] else -1) / 4 for key in ARMS})

    def contrast(self, weights: Mapping[Key, float]) -> Difference | None:
        """See `seeds.contrast`."""
        return contrast({key: arm.runs for key, arm in self.arms.items()}, weights)

    def failed(self, remedy: int, yes: bool) -> tuple[int, int]:
        """Of the arms with a remedy or without: runs that failed, runs."""
        every = [arm.runs.failed for key, arm in self.arms.items() if key[remedy] == yes]
        return int(sum(map(np.sum, every))), sum(map(len, every))


def of(rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Measured]:
    """The rows of a record by task, those of the settings first; of two rows of an arm the later one counts."""
    few = min(map(float, settings["epochs"]))
    arms = [Arm(row, few) for row in rows]
    names = dict.fromkeys((*settings["tasks"], *(arm.row["point"]["task"] for arm in arms)))
    by_task = {task: {arm.key: arm for arm in arms if arm.row["point"]["task"] == task} for task in names}
    return [Measured(task, {key: mine[key] for key in ARMS if key in mine})
            for task, mine in by_task.items() if mine]
