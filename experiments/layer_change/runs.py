"""The layer_change record by task.

Letters: S = L + 1 states of a token, of which number 0 is the embeddings' output.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.layer_change.following import RANDOM, TRAINED
from flaxbert.analysis.texts import OTHER, OWN

RSA, ANCHORED, CKA, SHIFT, DISTANCE = "rsa", "anchored rsa", "unbiased linear cka", "1 - cosine", "relative"
ALIKE = (RSA, ANCHORED, CKA)  # of which 1 is no change


class Thirds(NamedTuple):
    """Means over the bottom and the top third of the layers, without the embeddings' output."""

    bottom: float
    top: float

    @property
    def share(self) -> float:
        """The bottom's of the top's; nan where nothing changed there."""
        return self.bottom / self.top if self.top > 0 else float("nan")


def thirds(values: np.ndarray) -> Thirds:
    """Of [S] values; a third is a whole number of layers, rounded down, and one at least."""
    layers = np.asarray(values)[1:]
    size = max(1, len(layers) // 3)
    return Thirds(float(layers[:size].mean()), float(layers[-size:].mean()))


class Run(NamedTuple):
    """One run; `row` is that of the record."""

    row: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return self.row["point"]["seed"]

    @property
    def total(self) -> int:
        """Its steps."""
        return self.row["total_steps"]

    @property
    def steps(self) -> list[int]:
        """Those at which it was looked at."""
        return sorted({each["step"] for each in self.row["changes"]})

    def change(self, measure: str, text: str = OWN, step: int | None = None,
               direction: str = TRAINED) -> np.ndarray | None:
        """[S] how much each layer has changed, 0: not at all; None where it was not measured.

        Args:
          measure: one of the above.
          text: own or other; not looked at for the parameters' DISTANCE.
          step: None: the last.
          direction: of training, or random ones as long.
        """
        wanted = {"measure": measure, "text": "" if measure == DISTANCE else text, "direction": direction,
                  "step": self.total if step is None else step}
        found = next((each["values"] for each in self.row["changes"] if {**each, **wanted} == each), None)
        if found is None:
            return None
        return 1 - np.array(found) if measure in ALIKE else np.array(found)


class Measured(NamedTuple):
    """The runs of one task, by seed."""

    task: str
    runs: list[Run]

    def changes(self, measure: str, **which: Any) -> np.ndarray | None:
        """[n, S] of all seeds, as of `Run.change`; None where one was not measured."""
        found = [run.change(measure, **which) for run in self.runs]
        return None if any(each is None for each in found) else np.stack(found)

    def thirds(self, measure: str, **which: Any) -> list[Thirds]:
        """Of each seed."""
        found = self.changes(measure, **which)
        return [] if found is None else [thirds(values) for values in found]


def by_task(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Measured]:
    """The rows of a record, in the order of the settings."""
    names = dict.fromkeys((*settings["tasks"], *(row["point"]["task"] for row in rows)))
    found = [Measured(task, sorted((Run(row) for row in rows if row["point"]["task"] == task),
                                   key=lambda run: run.seed)) for task in names]
    return [each for each in found if each.runs]


__all__ = ["ALIKE", "ANCHORED", "CKA", "DISTANCE", "OTHER", "OWN", "RANDOM", "RSA", "SHIFT", "TRAINED", "Measured",
           "Run", "Thirds", "by_task", "thirds"]
