"""From what a file writes in its label column to numbers.

Letters: N examples, C classes.
"""

import dataclasses
import json
import math

import numpy as np

from flaxbert.errors import InputError
from flaxbert.tasks.base import Task
from flaxbert.tasks.rows import BadRow

LISTED = 20  # label names that an error message lists

def spell(value: object) -> str:
    """A label as text: 1, 1.0 and "1" are the same label, True is "true"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_empty(value: object) -> bool:
    """Whether a label cell is left blank."""
    return value is None or (isinstance(value, str) and not value.strip())


def _class(value: object, numbers: dict[str, int]) -> int:
    name = spell(value)
    if name not in numbers:
        more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
        raise BadRow(f"unknown label {name!r}; valid: {', '.join([*numbers][:LISTED])}{more}")
    return numbers[name]


def _score(value: object, numbers: dict[str, int]) -> float:
    try:
        score = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score) or abs(score) > float(np.finfo(np.float32).max):
        raise BadRow(f"label {value!r} is not a finite number")
    return score


def split_labels(value: object) -> list[str]:
    """The names in a multi-label cell: a list, a JSON list as text, or text with `|` between names."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise BadRow(f"label {value!r} starts like a JSON list and is none") from None
    if value is None:
        return []
    if isinstance(value, list):
        return [spell(name) for name in value]
    return [name.strip() for name in str(value).split("|") if name.strip()]


def _several(value: object, numbers: dict[str, int]) -> np.ndarray:
    row = np.zeros(len(set(numbers.values())), np.float32)
    row[[_class(name, numbers) for name in split_labels(value)]] = 1
    return row


PARSERS = {"classification": _class, "regression": _score, "multi_label": _several, "token": _class}
TYPES = {"classification": np.int32, "regression": np.float32, "multi_label": np.float32}


def numbering(task: Task) -> dict[str, int]:
    """What a file may write -> class number: the official spellings, then the label names."""
    return {name: number for names in (task.spellings, task.labels) for number, name in enumerate(names)}


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    """Alphabetical; by value where all are whole numbers, so that 10 follows 9."""
    try:
        return tuple(sorted(names, key=int))
    except ValueError:
        return tuple(sorted(names))


def with_labels(task: Task, values: list[object], where: str, least: int = 2) -> Task:
    """`task` with the label names that occur in `values` (the training labels), where it has none yet.

    Args:
      task: any.
      values: of the labels as the files write them.
      where: their file, for messages.
      least: how many names there must be; 2 for a classifier, of which several may be right: 1.

    Raises:
      InputError: fewer than that.
    """
    if task.labels or task.kind not in PARSERS or task.kind == "regression":
        return task
    if task.kind == "multi_label":
        names, least = {name for value in values for name in split_labels(value)}, 1
    else:
        names = {spell(value) for value in values}
    if len(names) < least:
        found = ", ".join(names) or "none"
        needed = f"{least} labels are" if least > 1 else "1 label is"
        raise InputError(f"{where}: at least {needed} needed, found: {found}")
    return dataclasses.replace(task, labels=_sorted_names(names))
