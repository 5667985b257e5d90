"""What the record keeps of each step of a run, and how the report reads it.

The size of an update is its root mean square over the weights above the embeddings: most words are in no batch, so
that their vectors stand still. Letters: n seeds, T steps.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.optimizers.theory import rounded
from experiments.seeds import kept, runs_of
from flaxbert import heads, pretrained, tasks, trees
from flaxbert.config import Config
from flaxbert.diagnostics import part
from flaxbert.prepare import build_model
from flaxbert.records import read_metrics
from flaxbert.statistics.runs import Runs

# (bias correction, warm-up) of an arm.
NEITHER, WARM, CORRECTED, BOTH = (False, False), (False, True), (True, False), (True, True)
ARMS = {NEITHER: "neither", WARM: "warm-up", CORRECTED: "correction", BOTH: "both"}
_NORM = "update_norm/"
_STILL = f"{_NORM}embeddings"


def weights_above_embeddings(config: Config) -> int:
    """How many scalars the layers, the pooler and the head of a run have."""
    task, _, _ = tasks.load_split(config, "dev")
    model = build_model(config, task, pretrained.load(config.model, weights=False).config)
    shapes = trees.flatten(heads.shapes(model))
    return sum(math.prod(shape.shape) for name, shape in shapes.items() if part(name) != "embeddings")


def found(folder: Path, config: Config) -> dict[str, Any]:
    """What a point's row holds.

    Args:
      folder: of all seeds.
      config: of all seeds, with --diagnose_every=1 and --log_every=1.

    Returns:
      those of `seeds.kept`, and weights, over which the mean is; rates, of each step; of each run updates, their
      sizes, and losses by step, None where a number was not finite.
    """
    rows, count, scores = read_metrics(folder), weights_above_embeddings(config), kept(folder)

    def of(seed: int, split: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["seed"] == seed and row["split"] == split]

    def size(row: Mapping[str, Any]) -> float | None:
        norms = [value for name, value in row.items() if name.startswith(_NORM) and name != _STILL]
        return rounded(math.sqrt(sum(norm ** 2 for norm in norms) / count)) if None not in norms else None
    for run in scores["runs"]:
        run |= {"updates": [size(row) for row in of(run["seed"], "diagnostics")],
                "losses": [_finite(row["loss"]) for row in of(run["seed"], "train")]}
    longest = max((of(run["seed"], "train") for run in scores["runs"]), key=len)
    return {**scores, "weights": count, "rates": [rounded(row["learning_rate"]) for row in longest]}


def _finite(value: float | None) -> float | None:
    return None if value is None else rounded(value)


@dataclasses.dataclass(frozen=True)
class Arm:
    """The runs of one point; `row` is that of the record."""

    row: Mapping[str, Any]

    @property
    def key(self) -> tuple[bool, bool]:
        """One of `ARMS`."""
        return self.row["point"]["bias_correction"], self.row["point"]["warmup"] > 0

    @property
    def rates(self) -> np.ndarray:
        """[T] learning rate of each step."""
        return np.array(self.row["rates"])

    @cached_property
    def updates(self) -> np.ndarray:
        """[n, T] size of each update over the peak rate; nan after a loss that was not finite."""
        return self._by_step("updates") / self.row["point"]["rate"]

    @cached_property
    def losses(self) -> np.ndarray:
        """[n, T] training loss of each step, dropout on."""
        return self._by_step("losses")

    def _by_step(self, name: str) -> np.ndarray:
        found = np.full((len(self.row["runs"]), len(self.rates)), np.nan)
        for to, run in zip(found, self.row["runs"], strict=True):
            values = [math.nan if value is None else value for value in run[name]]
            to[:len(values)] = values
        return found

    @property
    def seeds(self) -> list[int]:
        return [run["seed"] for run in self.row["runs"]]

    @property
    def first(self) -> int:
        """The first step, from 1, with a rate above 0."""
        return int(np.argmax(self.rates > 0)) + 1

    def runs(self) -> Runs:
        """Scores on dev by seed."""
        return runs_of(self.row, ARMS[self.key])


class Measured(NamedTuple):
    """What there is of one task: one of `ARMS` -> arm."""

    task: str
    arms: dict[tuple[bool, bool], Arm]

    def ratios(self, warm: bool) -> np.ndarray | None:
        """[n, T] size of an update without correction over that with it, seed by seed.

        Args:
          warm: with warm-up or without.

        Returns:
          nan where the rate is 0; None where one of the two arms has not been measured, or no seed is in both.
        """
        plain, corrected = self.arms.get((False, warm)), self.arms.get((True, warm))
        if plain is None or corrected is None:
            return None
        both = sorted({*plain.seeds} & {*corrected.seeds})
        steps = min(len(plain.rates), len(corrected.rates))
        a, b = (arm.updates[[arm.seeds.index(seed) for seed in both], :steps] for arm in (plain, corrected))
        return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0) if both else None


def of(rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[Measured]:
    """The runs of a record by task, those of the settings first; of two rows of an arm the later one counts."""
    arms = [Arm(row) for row in rows if row["point"]["part"] == "runs"]
    names = dict.fromkeys((*settings["tasks"], *(arm.row["point"]["task"] for arm in arms)))
    found = [Measured(task, {arm.key: arm for arm in arms if arm.row["point"]["task"] == task}) for task in names]
    return [Measured(each.task, {key: each.arms[key] for key in ARMS if key in each.arms})
            for each in found if each.arms]
