"""Predictions as the official evaluation servers want them."""

from pathlib import Path

import numpy as np

from flaxbert.errors import InputError
from flaxbert.tasks.base import Task


def _class(task: Task, value: np.ndarray) -> str:
    return str(int(value)) if task.numbers else task.labels[int(value)]


def _score(task: Task, value: np.ndarray) -> str:
    return f"{float(np.clip(value, *task.bounds) if task.bounds else value):.3f}"


def _several(task: Task, value: np.ndarray) -> str:
    return "|".join(name for name, chosen in zip(task.labels, value, strict=True) if chosen)


FORMS = {"classification": _class, "regression": _score, "multi_label": _several}


def submission(task: Task, split: str, predictions: np.ndarray, ids: list[str], folder: str | Path) -> Path:
    """Writes `index<TAB>prediction` rows, e.g. folder/CoLA.tsv for the test split of cola.

    Args:
      task: decides names or numbers, and a score's bounds.
      split: "test" and "test_mismatched" have official file names; others are called TASK.SPLIT.tsv.
      predictions: [N] class numbers or scores, or [N, C] zeros and ones for multi-label.
      ids: N names of rows.

    Raises:
      InputError: not as many predictions as rows.
    """
    if len(predictions) != len(ids):
        raise InputError(f"{task.name}, {split}: {len(predictions)} predictions for {len(ids)} rows")
    stem = task.submission.get(split, task.name if split == "test" else f"{task.name}.{split}")
    path = Path(folder) / f"{stem}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    form = FORMS[task.kind]
    rows = [f"{row_id}\t{form(task, value)}\n" for row_id, value in zip(ids, predictions, strict=True)]
    path.write_text("index\tprediction\n" + "".join(rows), encoding="utf-8", newline="\n")
    return path
