"""Several seeds of one setting: trained as one study, and what a row of a record keeps of their scores."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flaxbert.config import Config
from flaxbert.statistics.runs import Runs, scores_of
from flaxbert.train import finetune


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
