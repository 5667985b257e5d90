"""A fine-tuned model on its own dev split, with any parameters in place of its own: one program for all."""

import math
from collections.abc import Mapping
from typing import Any

from flaxbert import parallel, predict, tasks
from flaxbert.analysis.models import Pair
from flaxbert.backbone import Backbone
from flaxbert.errors import InputError
from flaxbert.evaluation import split_of
from flaxbert.tasks.base import Split


class Scorer:
    """Scores parameters as `flaxbert evaluate` scores those of the run.

    Attributes:
      params: part -> the run's own parameters, on the devices.
      placement: of all parameters to be scored.
      metrics: names of the task's metrics, the main one first, and `loss`.
      task: its name.
      examples: what is scored.

    Args:
      pair: whose `after` has a head.
      dev: examples of its task, from `dev_of`.
      checkpoint: best or last.

    Raises:
      InputError: `after` has no head for a task.
    """

    def __init__(self, pair: Pair, dev: Split, checkpoint: str = "best"):
        self._predictor = predict.load(pair.after.source, checkpoint)
        family, self.placement = self._predictor.family, self._predictor.placement
        self.params = self._predictor.head.params
        self.task = pair.config.task
        self.examples = dev
        self._encoded = self._predictor.encode(self.examples, "dev")
        self._first = Backbone([self._predictor.head], self.placement)
        self.metrics = (*family.task.metrics, "loss")

    def scores(self, params: Mapping[str, Any], what: str = "") -> dict[str, float]:
        """`loss` and every metric.

        Args:
          params: as `params`.
          what: names the progress bar.
        """
        head = self._predictor.head._replace(params=params)
        backbone = Backbone([head], self.placement, self._first)
        with parallel.memory_told(f"sequences of up to {self._predictor.max_length} tokens: give shorter ones"):
            outputs = backbone.outputs([self._encoded], what)[0]
        return self._predictor.family.scores(outputs, self._encoded, self.examples)


def finite(value: float) -> float | None:
    """The number, or None where it is none: far from all models a loss may be infinite."""
    return float(value) if math.isfinite(value) else None


def dev_of(pair: Pair, data_dir: str = "") -> Split:
    """The dev split of the run that `after` is, as it was read.

    Args:
      pair: the models.
      data_dir: where the task's files are now, if not where they were.

    Raises:
      InputError: nothing tells which task `after` is of; its files cannot be read, or have no labels.
    """
    config = pair.config
    if config is None:
        raise InputError(f"--after={pair.after.source}: nothing says which task it is of; give a run of ours or "
                         "an export of one")
    found = split_of(config, "dev", data_dir)
    if tasks.get(config.task).kind != "pretraining" and found.labels is None:
        raise InputError(f"--after: {config.task} has no labels in its dev split here")
    return found
