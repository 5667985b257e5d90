"""What a family of tasks does: from examples to token sequences, and from the model's outputs to answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flaxbert import heads
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.families.ensembles import ENSEMBLES
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
        return heads.loss(self.task.kind, self.config.class_weights, self.config.crf)(outputs, batch)

    def encode(self, tokenizer: Any, examples: Split, name: str = "inputs") -> Encoded:
        """Token sequences of a split; `name` is what messages call it."""
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

    def together(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs of S runs, [S, ...], as those of one: their mean, see `ensembles`."""
        return ENSEMBLES[self.task.kind](outputs)

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

    def cells(self, answer: dict[str, Any]) -> dict[str, Any]:
        """One of the answers as a row of a table: column -> value."""
        return answer

    def table(self, answers: Sequence[dict[str, Any]]) -> list[str]:
        """The answers as lines of a table."""
        return table([self.cells(answer) for answer in answers])

    def write(self, split: str, outputs: np.ndarray, encoded: Encoded, examples: Split, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        """Predictions of a split as the official files of the task; arguments as of `scores`."""
        raise NotImplementedError

    def score_file(self, path: Path, examples: Split) -> dict[str, float]:
        """The metrics of anybody's predictions, in the official format that `write` writes; no loss.

        Raises:
          InputError: names file and line or item: a prediction missing, twice, or unreadable.
        """
        raise NotImplementedError

    def label_names(self, path: Path) -> Sequence[str]:
        """The label names in such a file, for a task that has none of its own: none, as a rule."""
        return ()

    def inputs(self, values: Sequence[Any]) -> Split:
        """Examples without labels from what a predictor is called with; raises `InputError` on anything else."""
        raise NotImplementedError


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as lines with tabs between cells: a header, which some rows do not fill, and a row each."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [header, *([row.get(name) for name in header] for row in rows)] if rows else []
    return ["\t".join(map(cell, line)) for line in lines]


def spread(answer: Mapping[str, Any], probabilities: Mapping[Any, float]) -> dict[str, Any]:
    """The row of an answer with a column p(NAME) for each probability, in place of one for all."""
    others = {name: value for name, value in answer.items() if name != "probabilities"}
    return {**others, **{f"p({name})": p for name, p in probabilities.items()}}


def cell(value: Any) -> str:
    """Numbers with six decimals, lists with `|` between; texts without tabs and line breaks; nothing for None."""
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, dict):
        return " ".join(map(cell, value.values()))
    if isinstance(value, list):
        return "|".join(map(cell, value))
    return " ".join(str("" if value is None else value).split())
