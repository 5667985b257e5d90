"""The scores of many seeds, as the folders of their runs have them."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert.errors import InputError, one_of
from flaxbert.metrics import LOWER_IS_BETTER
from flaxbert.records import is_run, of_seed, read_run
from flaxbert.statistics.baseline import failed

CORRELATIONS = ("mcc", "pearson", "spearman")  # of a constant answer they are 0
WHICH = {"last": "metrics", "best": "best"}  # checkpoint -> where result.json has its scores

NEEDED = ("seed", "status", "task", "main_metric", *WHICH.values())


@dataclass(frozen=True)
class Runs:
    """Runs that differ in nothing but their seed.

    Attributes:
      name: what to call them.
      task: of all of them.
      metric: the task's main one.
      scores: seed -> score on dev; nan where the loss was not finite.
      baseline: what the best constant answer scores there; None where that is not known.
    """

    name: str
    task: str
    metric: str
    scores: Mapping[int, float]
    baseline: float | None = None

    @property
    def sign(self) -> int:
        """What makes higher scores the better ones."""
        return -1 if self.metric in LOWER_IS_BETTER else 1

    @property
    def failed(self) -> np.ndarray:
        """[n] which of them failed, see `baseline.failed`."""
        return failed([*self.scores.values()], self.baseline, self.sign < 0)

    def values(self, seeds: Iterable[int] | None = None) -> np.ndarray:
        """[n] scores of these seeds, or of all. A run without one has that of the constant answer.

        To leave it out would make the recipe that loses more runs the better one.

        Raises:
          InputError: what a constant answer scores is needed and not known.
        """
        found = []
        for seed in self.scores if seeds is None else seeds:
            score = self.scores[seed] if math.isfinite(self.scores[seed]) else self.baseline
            if score is None:
                raise InputError(f"{self.name}: seed {seed} has no {self.metric}, and its result.json does not "
                                 "tell what a constant answer scores, to put in its place; train that seed anew")
            found.append(score)
        return np.array(found, np.float64)


def scores_of(folder: str | Path, checkpoint: str = "last") -> Runs:
    """The scores in a run's folder, or in the folders of several runs that stand in one (seed_1, seed_2, ...).

    Args:
      folder: of the run or runs.
      checkpoint: last or best.

    Raises:
      InputError: no run there; one that is not finished or cannot be read; a seed twice; runs of different tasks,
        metrics or dev splits.
    """
    which = WHICH[one_of(checkpoint, tuple(WHICH), "--checkpoint")]
    folder = Path(folder).expanduser()
    files = sorted(folder.glob("*/result.json")) or sorted(folder.glob("result.json"))
    if not files:
        raise InputError(f"{folder}: no runs there (no result.json, nor one in a folder in it); give the folder "
                         "that finetune wrote")
    _all_there(folder)
    results = {file: _read(file) for file in files}
    scores: dict[int, float] = {}
    for file, result in results.items():
        if result["seed"] in scores:
            raise InputError(f"{file.parent}: a second run of seed {result['seed']} in {folder}; give folders of "
                             "runs that differ in their seed")
        dev = result[which].get("dev", {}) if result["status"] == "finished" else {}
        score = dev.get(result["main_metric"])
        scores[result["seed"]] = math.nan if score is None else score
    task, metric = _only(folder, "tasks or metrics", {
        file: (result["task"], result["main_metric"]) for file, result in results.items()})
    constant = 0.0 if metric in CORRELATIONS else None  # runs of earlier versions do not tell
    baseline = _only(folder, "dev splits, where a constant answer scores", {
        file: result.get("majority_baseline", constant) for file, result in results.items()})
    return Runs(str(folder), task, metric, dict(sorted(scores.items())), baseline)


def _all_there(folder: Path) -> None:
    """Raises `InputError` where finetune was to train seeds here that have no result yet."""
    wanted = read_run(folder)[0].seeds if is_run(folder) else ()  # or somebody has put the folder together
    lacking = [seed for seed in wanted if not (of_seed(folder, seed) / "result.json").exists()]
    if lacking:
        raise InputError(f"{folder}: seed {lacking[0]} has not been trained yet ({len(lacking)} of {len(wanted)} "
                         "are lacking); go on by --resume")


def _read(file: Path) -> dict[str, Any]:
    """The content of a result.json, of a run that has come to an end."""
    try:
        result = json.loads(file.read_text())
        lacking = [name for name in NEEDED if name not in result]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file}: not a run's result ({type(error).__name__}: {error})") from None
    if lacking:
        raise InputError(f"{file}: not a run's result (it has no {lacking[0]})")
    if result["status"] not in ("finished", "failed"):
        raise InputError(f"{file.parent}: seed {result['seed']} is {result['status']}; go on with it by --resume, "
                         "or take its folder away")
    return result


def _only(folder: Path, what: str, of: Mapping[Path, Any]) -> Any:
    """The value that all runs have in common, those left out that have None."""
    differing = {value: file.parent.name for file, value in of.items() if value is not None}
    if len(differing) > 1:
        shown = {name: " by ".join(value) if isinstance(value, tuple) else value
                 for value, name in differing.items()}
        raise InputError(f"{folder}: runs of different {what}: "
                         + ", ".join(f"{value} ({name})" for name, value in shown.items()))
    return next(iter(differing), None)
