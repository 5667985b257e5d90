"""Several seeds of one setting: trained as one study, and what a row of a record keeps of their scores."""

import math
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments import paired
from experiments.paired import Difference
from flaxbert.config import Config
from flaxbert.statistics.runs import Runs, scores_of
from flaxbert.train import finetune

# Texts of the flags of a study of many seeds.
FLAGS = {"dtype": "Arithmetic of the encoder, as flaxbert's --dtype.",
         "seeds_per_program": "Runs at a time, as flaxbert's --seeds_per_program."}


@contextmanager
def trained(**settings: Any) -> Iterator[tuple[Path, Config]]:
    """The folder of all seeds, which goes when the block ends, and their settings; scored after the last step.

    Args:
      settings: of a `Config`, with `seeds`.
    """
    with tempfile.TemporaryDirectory(prefix="flaxbert-study-") as scratch:
        config = Config.make(**settings, evals_per_epoch=0, log_every=1, checkpoints=False, tensorboard=False,
                             output_dir=str(Path(scratch) / "runs"))
        result = finetune(config)
        if result["status"] == "interrupted":
            raise KeyboardInterrupt
        yield Path(result["run"]), config


def kept(folder: Path) -> dict[str, Any]:
    """Of the runs in a folder: metric, the main one; baseline, the best constant answer's score on dev; runs, of
    each its seed and its score there, None where the loss was not finite."""
    runs = scores_of(folder)
    return {"metric": runs.metric, "baseline": runs.baseline,
            "runs": [{"seed": seed, "score": score if math.isfinite(score) else None}
                     for seed, score in runs.scores.items()]}


def runs_of(row: Mapping[str, Any], name: str) -> Runs:
    """The scores that a row keeps; `name` is what tables and pictures call them."""
    scores = {run["seed"]: math.nan if run["score"] is None else run["score"] for run in row["runs"]}
    return Runs(name, row["point"]["task"], row["metric"], scores, row["baseline"])


def contrast(runs: Mapping[Hashable, Runs], weights: Mapping[Any, float]) -> Difference | None:
    """The sum of the arms' scores with these weights, seed by seed, over the seeds that all of them have.

    Args:
      runs: what an arm is called -> its scores.
      weights: the same -> its weight; they add up to 0.

    Returns:
      above 0 where the arms with weights above 0 are better, whatever the metric; None where an arm is not there,
      or no seed is in all of them.
    """
    if not weights.keys() <= runs.keys():
        return None
    seeds = sorted(set.intersection(*({*runs[key].scores} for key in weights)))
    total = np.sum([weight * runs[key].sign * runs[key].values(seeds) for key, weight in weights.items()], axis=0)
    return paired.difference(dict(zip(seeds, total.tolist(), strict=True)), dict.fromkeys(seeds, 0.0))
