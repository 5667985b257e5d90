"""What a family of tasks does: from examples to token sequences, and from the model's outputs to answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flaxbert import heads
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.tasks.base import Split, Task


class Family:
    """One task under the settings of one run. Each kind of task has a subclass; `families.FAMILIES` lists them.

    `outputs` below is what the model says of a split: [N, C] logits, one row an example, or, where
    `per_token`, [tokens, C], aligned with `encoded.tokens`.

    Args:
      task: with its labels.
      config: the settings; `max_length` and those that only this kind of task looks at.
    """

    per_token: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False  # the model's outputs are computed with the labels at hand

    def __init__(self, task: Task, config: Config):
        self.task, self.config = task, config

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        """Losses of the shapes of batch["weights"], see `heads.LOSSES`."""
        return heads.loss(self.task.kind, self.config.class_weights)(outputs, batch)

    def encode(self, tokenizer: Any, examples: Split, what: str = "tokenising") -> Encoded:
        """Token sequences of a split; `what` names the progress bar."""
        raise NotImplementedError

    def fit(self, train: Encoded) -> None:
        """Takes what it needs to know of the training split, before the first step: nothing, as a rule."""

    def train_batch(self, arrays: dict[str, Any], step: int) -> dict[str, Any]:
        """The batch that step number `step` (from 0) trains on, from the collated one: the same, as a rule."""
        return arrays

    def eval_batch(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The batch that is evaluated, likewise."""
        return arrays

    def readout(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        """What an evaluation brings back from the device: the model's outputs, as a rule."""
        return outputs

    def scores(self, outputs: np.ndarray, encoded: Encoded, examples: Split,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        """`loss` and every metric of a whole split that has labels.

        Args:
          outputs: of the split.
          encoded, examples: the split.
          dev: what this function said of the dev split, where something was tuned there; None: this is it.
        """
        raise NotImplementedError

    def answers(self, outputs: np.ndarray, encoded: Encoded, examples: Split,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """What a predictor returns, one dict an example, of JSON types; arguments as of `scores`."""
        raise NotImplementedError

    def write(self, split: str, outputs: np.ndarray, encoded: Encoded, examples: Split, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        """Predictions of a split as the official files of the task; arguments as of `scores`."""
        raise NotImplementedError

    def score_file(self, path: Path, examples: Split) -> dict[str, float]:
        """The metrics of anybody's predictions, in the official format that `write` writes; no loss.

        Raises:
          InputError: names file and line or item: a prediction missing, twice, unknown, or unreadable.
        """
        raise NotImplementedError

    def inputs(self, values: Sequence[Any]) -> Split:
        """Examples without labels from what a predictor is called with; raises `InputError` on anything else."""
        raise NotImplementedError
