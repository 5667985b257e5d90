"""Multiple choice: SWAG (Zellers et al. 2018), ARC (Clark et al. 2018), and anybody's own questions as JSONL.

A question is a context and 2 to 26 choices; their number may differ from one question to the next.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

import numpy as np

from flaxbert.errors import InputError
from flaxbert.tasks import files
from flaxbert.tasks.base import HUB_SPLITS, ChoiceExamples, Hub, Layout, Task
from flaxbert.tasks.labels import is_empty, spell
from flaxbert.tasks.rows import SHOWN, BadRow, BadRows, KnownBadRow, Report

Question = tuple[str, list[str]]  # the context, its choices


def _checked(context: object, choices: object) -> Question:
    """The question, if it is one; raises BadRow."""
    if not isinstance(context, str) or not context.strip():
        raise BadRow(f"the context is {context!r:.60}; it must be a text")
    if not isinstance(choices, Sequence) or isinstance(choices, str):
        raise BadRow(f"the choices are {choices!r:.60}; they must be a list of texts")
    if not 2 <= len(choices) <= len(LETTERS):
        raise BadRow(f"the number of choices is {len(choices)}; it must be 2 to {len(LETTERS)}")
    for letter, choice in zip(LETTERS, choices, strict=False):
        if not isinstance(choice, str) or not choice.strip():
            raise BadRow(f"choice {letter} is {choice!r}; it must be a text")
    return context, list(choices)


def listed(cells: Sequence[Any]) -> Question:
    """The question in a context and a list of choices, or in ARC's JSON for the two.

    There they are {"stem", "choices"}, and each choice is {"text", "label"}; on the hub the choices are
    {"text": [...], "label": [...]}.

    Raises:
      BadRow: something else, or not 2 to 26 choices.
    """
    first = cells[0] if len(cells) == 1 else None
    context, choices = (first.get("stem"), first.get("choices")) if isinstance(first, dict) else (*cells, None)[:2]
    if isinstance(choices, dict):
        choices = choices.get("text")
    if isinstance(choices, list | tuple):
        choices = [choice.get("text") if isinstance(choice, dict) else choice for choice in choices]
    return _checked(context, choices)


def _swag(cells: Sequence[Any]) -> Question:
    """sent1, and how sent2 may end, as in Devlin 2018, section 4.4."""
    context, begun, *endings = cells
    _checked(context, endings)
    return context, [f"{begun or ''} {ending}".strip() for ending in endings]


def _arc(cells: Sequence[Any]) -> Question:
    """A question and its options in columns of their own, of which the last may be empty."""
    question, *options = cells
    while options and is_empty(options[-1]):
        options.pop()
    if not options:
        raise KnownBadRow("all options are empty")
    return _checked(question, options)


def _position(label: object, choices: list[str]) -> int:
    """Which choice a label means, from 0: it is the choice itself, or its number from 0, or its letter."""
    name = spell(label)
    same = [i for i, choice in enumerate(choices) if isinstance(label, str) and choice.strip() == name]
    if len(same) > 1:
        raise BadRow(f"the label {name!r} is {len(same)} of the choices; give its number, from 0")
    position = same[0] if same else int(name) if name.isdecimal() else _letter(name)
    if not 0 <= position < len(choices):
        raise BadRow(f"the label {name!r} is none of the {len(choices)} choices; give its number, from 0, its "
                     "letter or its text")
    return position


def _predicted(cell: str, choices: list[str]) -> int:
    """The same for a prediction: a number is what `submission` writes, whatever the texts of the choices are."""
    return _position(int(cell) if cell.isdecimal() else cell, choices)


def _answer(label: object, choices: list[str]) -> int:
    """The same for ARC: a letter, or a number from 1. Some copies lack the option that is right."""
    name = spell(label)
    position = int(name) - 1 if name.isdecimal() else _letter(name)
    if not 0 <= position < 5:
        raise BadRow(f"the answer is {name!r}; valid: A to E, 1 to 5")
    if position >= len(choices):
        raise KnownBadRow(f"the answer is {name}, an option that is not there")
    return position


def _letter(name: str) -> int:
    """The place of a capital letter in the alphabet; -1 where it is none."""
    return LETTERS.find(name) if len(name) == 1 else -1


@dataclass(frozen=True)
class Form:
    """How a task writes its questions.

    Attributes:
      spread: question from cells, where a file has a column for each choice.
      position: (label, choices) -> which is right.
      predicted: (cell of a file of predictions, choices) -> which it means.
    """

    spread: Callable[[Sequence[Any]], Question] = listed
    position: Callable[[object, list[str]], int] = _position
    predicted: Callable[[str, list[str]], int] = _predicted


_ARC = Form(_arc, _answer, _answer)
FORMS = {"swag": Form(_swag), "arc": _ARC, "arc_easy": _ARC, "arc_challenge": _ARC}


def form(task: Task) -> Form:
    """How this task writes its questions."""
    return FORMS.get(task.name, Form())


class Records(files.Records):
    """Rows as they are: whether there is a question in them, `to_examples` finds out."""

    def add(self, place: str, texts: tuple[object, ...], label: object, row_id: object) -> None:
        self.places.append(place)
        self.texts.append(texts)
        self.labels.append(None if is_empty(label) else label)
        self.ids.append(str(row_id))


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False, labels_required: bool = False,
                 layouts: tuple[Layout, ...] = ()) -> Records:
    """As `files.read_records`; a path with `*` in it means all such files, one after the other."""
    paths = files.matching(path) or [path]
    parts = [files.read_records(task, each, skip_bad_rows, labels_required, layouts, Records) for each in paths]
    return parts[0] if len(parts) == 1 else _joined(str(path), paths, parts)


def _joined(name: str, paths: list[Path], parts: list[Records]) -> Records:
    """Records of several files as those of one, whose places and ids tell the file."""
    bad = BadRows(name, parts[0].bad.skip)
    whole = Records(bad, all(part.labelled for part in parts))
    for path, part in zip(paths, parts, strict=True):
        bad.count += part.bad.count
        bad.messages = [*bad.messages, *(f"{path.name}, {message}" for message in part.bad.messages)][:SHOWN]
        whole.places += [f"{path.name}, {place}" for place in part.places]
        whole.ids += [f"{path.stem}:{row_id}" for row_id in part.ids]
        whole.texts += part.texts
        whole.labels += part.labels
    return whole


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool) -> Records:
    """As `files.from_hub`; -1 stands for a label that is held back."""
    records = files.from_hub(task, split, where, skip_bad_rows, Records)
    records.labels = [None if label == -1 else label for label in records.labels]
    return records


def to_examples(task: Task, records: Records, labels_required: bool) -> tuple[ChoiceExamples, Report]:
    """Finds the questions in the rows, and which of their choices is right.

    Args:
      task: tells the form.
      records: from `read_records` or the hub.
      labels_required: a blank label is a bad row. Otherwise a split whose labels are all blank has none.

    Returns:
      the questions and what was skipped.

    Raises:
      InputError: a bad row, or no usable one.
    """
    style = form(task)
    given = records.labelled and (labels_required or any(label is not None for label in records.labels))
    contexts, choices, labels, ids = [], [], [], {}
    rows = zip(records.places, records.texts, records.labels, records.ids, strict=True)
    for place, cells, label, row_id in rows:
        try:
            if row_id in ids:
                raise BadRow(f"the id {row_id!r} occurs twice")
            context, offered = (style.spread if len(cells) > 2 else listed)(cells)
            if given and label is None:
                raise BadRow("no label: it does not say which choice is right")
            position = style.position(label, offered) if given else -1
        except BadRow as error:
            records.bad.add(place, error)
            continue
        ids[row_id] = place
        contexts.append(context)
        choices.append(offered)
        labels.append(position)
    if not ids:
        raise InputError(f"{records.bad.name}: no questions" + (" that can be read" if records.bad.count else ""))
    return (ChoiceExamples(contexts, choices, np.asarray(labels, np.int32) if given else None, list(ids)),
            records.bad.report())


_LISTED = (Layout(("context", "choices"), "label", "id"), Layout(("question", "choices"), "label", "id"))


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[ChoiceExamples, Report]:
    """Questions to answer: a file as the task's own, or JSONL of {"context", "choices"} or [context, choices].

    Args:
      task: tells the columns; labels are not looked at and need not be there.
      path: a file, or "-" for standard input.
      skip_bad_rows: count rows that cannot be read in place of stopping.
    """
    layouts = tuple(dataclasses.replace(layout, label=None, widths=(len(layout.texts), *layout.widths)
                                        if layout.widths else ())
                    for layout in (*task.layouts, *_LISTED, Layout((0, 1), widths=(2,))))
    records = read_records(task, path, skip_bad_rows, layouts=layouts)
    return to_examples(task, records, labels_required=False)


_SWAG = ("sent1", "sent2", "ending0", "ending1", "ending2", "ending3")
# A CSV copy in two folders, whose "dev" and "test" are the official train and validation; the hub's; AI2's JSONL.
_ARC_LAYOUTS = (Layout((0, 1, 2, 3, 4), 5, widths=(6,)), Layout(("question", "choices"), "answerKey", "id"),
                Layout(("question",), "answerKey", "id"))


def _arc_task(name: str, title: str, stem: str, path: str = "", config: str | None = None) -> Task:
    """ARC's files of one name or pattern, anywhere under --data_dir; on the hub easy and hard ones are apart."""
    return Task(name, "choice", title, ("accuracy",), layouts=_ARC_LAYOUTS,
                files={"train": f"**/{stem}_dev.csv", "dev": f"**/{stem}_test.csv"},
                hub=Hub(path, config, ("question", "choices"), "answerKey", HUB_SPLITS, "id"))


TASKS = (
    Task("swag", "choice", "how does a scene go on", ("accuracy",), layouts=(Layout(_SWAG, "label"),),
         files={"train": "train.csv", "dev": "val.csv", "test": "test.csv"},
         hub=Hub("allenai/swag", "regular", _SWAG, "label", HUB_SPLITS)),
    _arc_task("arc", "school science, easy and hard questions", "arc_*"),
    _arc_task("arc_easy", "school science, easy questions", "arc_easy", "allenai/ai2_arc", "ARC-Easy"),
    _arc_task("arc_challenge", "school science, hard questions", "arc_challenge", "allenai/ai2_arc",
              "ARC-Challenge"),
    Task("multiple_choice", "choice", "your own questions with choices", ("accuracy",), layouts=_LISTED,
         files={"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"},
         hub=Hub("", None, ("context", "choices"), "label", HUB_SPLITS, "id")),
)
