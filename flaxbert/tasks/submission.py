"""Predictions as the official evaluation servers want them: written, and read back to be scored."""

from collections.abc import Callable, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from flaxbert.errors import InputError, note
from flaxbert.tasks.base import Task
from flaxbert.tasks.labels import PARSERS, TYPES, numbering
from flaxbert.tasks.rows import BadRow


def _class(task: Task, value: np.ndarray) -> str:
    return str(int(value)) if task.numbers else task.labels[int(value)]


def _score(task: Task, value: np.ndarray) -> str:
    return f"{float(np.clip(value, *task.bounds) if task.bounds else value):.3f}"


def _several(task: Task, value: np.ndarray) -> str:
    return "|".join(name for name, chosen in zip(task.labels, value, strict=True) if chosen)


def _number(task: Task, value: np.ndarray) -> str:
    return str(int(value))


def _letter(task: Task, value: np.ndarray) -> str:
    return ascii_uppercase[int(value)]


FORMS = {"classification": _class, "regression": _score, "multi_label": _several, "choice": _number}


class Style(NamedTuple):
    """How a file of predictions is laid out, an id and a prediction a row.

    Attributes:
      ending, separator, header: of the file; "" where it has no header.
      form: (task, prediction) -> text, where it is not its kind's in FORMS.
    """

    ending: str = ".tsv"
    separator: str = "\t"
    header: str = "index\tprediction"
    form: Callable[[Task, np.ndarray], str] | None = None


# SWAG: what its authors' csv_predict.py writes. ARC: the leaderboard's (allenai/aristo-leaderboard).
_ARC = Style(".csv", ",", "", _letter)
STYLES = {"swag": Style(".csv", ",", ",pred"), "arc": _ARC, "arc_easy": _ARC, "arc_challenge": _ARC}


def submission(task: Task, split: str, predictions: np.ndarray, ids: list[str], folder: str | Path) -> Path:
    """Writes an id and a prediction a row, e.g. folder/CoLA.tsv for the test split of cola.

    Args:
      task: decides names or numbers, a score's bounds, and the layout of the file.
      split: "test" and "test_mismatched" have official file names; others are called TASK.SPLIT.
      predictions: [N] class numbers, scores or numbers of choices, or [N, C] zeros and ones for multi-label.
      ids: N names of rows.

    Raises:
      InputError: not as many predictions as rows.
    """
    if len(predictions) != len(ids):
        raise InputError(f"{task.name}, {split}: {len(predictions)} predictions for {len(ids)} rows")
    style = STYLES.get(task.name, Style())
    stem = task.submission.get(split, task.name if split == "test" else f"{task.name}.{split}")
    path = Path(folder) / f"{stem}{style.ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    form = style.form or FORMS[task.kind]
    lines = [style.header] if style.header else []
    lines += [f"{row_id}{style.separator}{form(task, value)}"
              for row_id, value in zip(ids, predictions, strict=True)]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def read_submission(task: Task, path: str | Path, ids: list[str]) -> np.ndarray:
    """Predictions in a file as `submission` writes it, in the order of `ids`, as its argument is.

    Raises:
      InputError: as `cells_by_id` and `in_order`.
    """
    parse, numbers = PARSERS[task.kind], numbering(task)
    found = in_order(path, cells_by_id(task, path), ids, lambda _, cell: parse(cell, numbers))
    return np.asarray(found, TYPES[task.kind])


def cells_by_id(task: Task, path: str | Path) -> dict[str, str]:
    """All that is in a file laid out as `submission` does: id -> prediction as text.

    Raises:
      InputError: names file and line: no such file, no header, a row of another layout, an id that comes twice.
    """
    style = STYLES.get(task.name, Style())
    try:
        lines = Path(path).read_text("utf-8-sig").rstrip("\n").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text") from error
    top = bool(style.header)
    if top and lines[0] != style.header:
        raise InputError(f"{path}, line 1: {lines[0]!r:.40}; the header should be {style.header!r}")
    said: dict[str, str] = {}
    for number, line in enumerate(lines[top:], start=1 + top):
        row_id, separator, cell = line.rpartition(style.separator)
        if not separator:
            raise InputError(f"{path}, line {number}: {line!r:.40} is no id and prediction with "
                             f"{style.separator!r} between")
        if row_id in said:
            raise InputError(f"{path}, line {number}: a second prediction for {row_id!r}")
        said[row_id] = cell
    return said


def in_order(path: str | Path, said: Mapping[str, Any], ids: list[str],
             parse: Callable[[int, Any], Any] = lambda number, value: value) -> list[Any]:
    """What a file of predictions says of each of `ids`, which are all it is judged by; a note counts its others.

    Args:
      path: the file, for messages.
      said: id -> prediction, all that it holds.
      ids: of the split.
      parse: (number of the id, prediction) -> what is returned; raises `BadRow`.

    Raises:
      InputError: an id is missing, or names the id whose prediction cannot be read.
    """
    missing = [row_id for row_id in ids if row_id not in said]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{path}: no prediction for {missing[0]!r}{more}")
    found = []
    for number, row_id in enumerate(ids):
        try:
            found.append(parse(number, said[row_id]))
        except BadRow as error:
            raise InputError(f"{path}, the prediction for {row_id}: {error}") from None
    known = set(ids)
    others = [name for name in said if name not in known]
    if others:
        note(f"{path}: {len(others)} of its {len(said)} predictions do not count, the split has no such id: "
             f"{others[0]!r} is the first")
    return found
