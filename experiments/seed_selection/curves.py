"""The score of the best of k seeds where it was chosen, and elsewhere.

Leads are over the mean seed. Letters: n seeds, k of them among which the best is chosen.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.stability.arms import classes
from experiments.tables import written
from experiments.training import TOYS
from flaxbert.metrics import METRICS
from flaxbert.statistics.selection import expected_best, over_halvings, selection_curve

DECIMALS = 5
SOME = 5  # seeds: few
# (many epochs, bias correction) of an arm.
ARMS = {(False, False): "few epochs", (False, True): "few epochs, corrected",
        (True, False): "many epochs", (True, True): "many epochs, corrected"}


def found(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a point's row holds, from that of the stability study with the predictions of all seeds.

    Returns:
      metric; n; examples, how many were predicted; halves: as of `selection.over_halvings`, where one half of them
      chooses; best: `selection.expected_best` of the scores on all of them; dev: None, or where these are a test
      split, of the seed that dev chose `chosen`, its score on dev, and `other`, on that split. Lists of n, for
      k = 1 to n. None for the three where there is one seed without a score for each but one.
    """
    labels, runs = classes(row["labels"]), [run for run in row["runs"] if run["predicted"]]
    about = {"metric": row["metric"], "n": len(runs), "examples": len(labels)}
    if len(runs) < 2:
        return {**about, "halves": None, "best": None, "dev": None}
    metric, count = METRICS[row["metric"]], int(labels.max()) + 1
    said = [classes(run["predicted"]) for run in runs]

    def score(rows: np.ndarray | slice) -> list[float]:
        return [metric(each[rows], labels[rows], classes=count) for each in said]
    scores = score(slice(None))
    dev = dict(zip(("chosen", "other"), (curve.tolist() for curve in selection_curve(
        np.array([run["dev"][row["metric"]] for run in runs]), scores)), strict=True))
    return {**about, "halves": _rounded(over_halvings(score, len(labels))),
            "best": _rounded(expected_best(scores)),
            "dev": _rounded(dev) if row["point"]["task"] in TOYS else None}


def _rounded(curves: Mapping[str, Iterable[float]]) -> dict[str, list[float]]:
    return {name: [round(value, DECIMALS) for value in curve] for name, curve in curves.items()}


@dataclasses.dataclass(frozen=True)
class Arm:
    """The curves of one point; `row` is that of the record."""

    row: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What pictures call it."""
        point = self.row["point"]
        return f"{point['epochs']:g} epochs, {'' if point['bias_correction'] else 'no '}correction"

    @property
    def rate(self) -> str:
        """As one writes it."""
        return written(self.row["point"]["rate"])

    @property
    def mean(self) -> float:
        """The score of the mean seed."""
        return self.row["halves"]["chosen"][0]

    def lead(self, curve: str, k: int = 0, by: str = "halves") -> float:
        """By how much the seed that is best of k is ahead of the mean one.

        Args:
          curve: chosen: where it was chosen; other: elsewhere.
          k: seeds; 0: all.
          by: what chose it: halves, or dev.
        """
        values = self.row[by][curve]
        return values[k - 1] - values[0]

    def band(self, curve: str) -> tuple[float, float]:
        """Within which 95 % of the halvings have the score of the best of all, less the mean seed's."""
        halves = self.row["halves"]
        return tuple(halves[f"{curve}_{side}"][-1] - halves[curve][0] for side in ("low", "high"))


class Measured(NamedTuple):
    """What there is of one task: a key of `ARMS` -> arm, those that have curves."""

    task: str
    arms: dict[tuple[bool, bool], Arm]


def of(rows: Iterable[Mapping[str, Any]], tasks: Iterable[str]) -> list[Measured]:
    """The rows of a record by task, those named first; of two rows of an arm the later one counts.

    Few epochs are the fewest of all rows, many all others.
    """
    arms = [Arm(row) for row in rows if row["halves"]]
    names = dict.fromkeys((*tasks, *(arm.row["point"]["task"] for arm in arms)))
    few = min((arm.row["point"]["epochs"] for arm in arms), default=0)
    by_key = {task: {(arm.row["point"]["epochs"] != few, arm.row["point"]["bias_correction"]): arm
                     for arm in arms if arm.row["point"]["task"] == task} for task in names}
    return [Measured(task, {key: mine[key] for key in ARMS if key in mine})
            for task, mine in by_key.items() if mine]
