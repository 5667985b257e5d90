"""SQuAD (Rajpurkar et al. 2016, 1606.05250; 2018, 1806.03822): questions whose answers are pieces of a paragraph.

The official JSON is {"data": articles}; an article has `paragraphs`, a paragraph a `context` and questions `qas`,
a question `id`, `question`, `answers` of `text` and `answer_start`, in version 2 `is_impossible`. On the hub a row
is a question. Offsets count characters. Anybody's own questions can be put into that form.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flaxbert.errors import InputError
from flaxbert.tasks.base import Hub, SpanExamples, Task
from flaxbert.tasks.files import by_name
from flaxbert.tasks.rows import BadRow, BadRows, Report, Row, read_rows, whole

Answers = list[tuple[str, int]]  # text, offset


@dataclass
class Records:
    """The questions of one split; none of them has the id of another.

    Attributes:
      bad: knows the file's name and counts its bad questions.
      questions, contexts: of each question.
      ids: its name, and whether that is its own, or only the place where it stands.
      answers: of each question; None where nothing is said about an answer.
      labels: spans have no label names.
    """

    bad: BadRows
    questions: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    answers: list[Answers | None] = field(default_factory=list)
    ids: dict[str, bool] = field(default_factory=dict)  # in order, quick to look up
    labels: tuple[str, ...] = ()

    def add(self, task: Task, place: str, cells: dict[str, Any], answered: bool = True) -> None:
        """Takes one question in, or tells of it.

        Args:
          task: tells whether questions may have no answer.
          place: where it stands, if it has no id.
          cells: `question`, `context`, `id` and the like.
          answered: look at its answers.
        """
        known = cells.get("id") is not None
        name = str(cells["id"]) if known else place
        try:
            whole(cells)
            question, context = _text(cells, "question"), _text(cells, "context")
            answers = _answers(task, cells, context) if answered else None
            if name in self.ids:
                raise BadRow("another question has the same id")
        except BadRow as error:
            self.bad.add(f"question {name}" if known else place, error)
            return
        self.questions.append(question)
        self.contexts.append(context)
        self.answers.append(answers)
        self.ids[name] = known


def _text(cells: dict[str, Any], name: str) -> str:
    if name not in cells:
        raise BadRow(f"has no {name}")
    if not isinstance(cells[name], str):
        raise BadRow(f"the {name} is {cells[name]!r:.60}; it must be a text")
    if not cells[name].strip():
        raise BadRow(f"the {name} is empty")
    return cells[name]


def _answers(task: Task, cells: dict[str, Any], context: str) -> Answers | None:
    """The answers of a question, checked against its context; None where there are none and there should be."""
    listed = cells.get("answers")
    if listed is None and not cells.get("is_impossible"):
        return None
    answers = [_answer(each, context) for each in _listed(listed or [])]
    if not answers and not task.unanswerable:
        return None
    said = cells.get("is_impossible")
    if said is not None and bool(said) == bool(answers):
        raise BadRow(f"is_impossible is {json.dumps(said)}, but it has {len(answers) or 'no'} answers")
    return answers


def _listed(answers: Any) -> list[Any]:
    """The hub has one list of texts and one of offsets in place of a list of answers."""
    if isinstance(answers, dict) and isinstance(answers.get("text"), list) and \
            isinstance(answers.get("answer_start"), list) and len(answers["text"]) == len(answers["answer_start"]):
        return [{"text": text, "answer_start": start} for text, start in
                zip(answers["text"], answers["answer_start"], strict=True)]
    if not isinstance(answers, list):
        raise BadRow(f"its answers are {answers!r:.60}; they must be a list")
    return answers


def _answer(answer: Any, context: str) -> tuple[str, int]:
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str) or \
            not isinstance(answer.get("answer_start"), int):
        raise BadRow(f"answer {answer!r:.60} should be a text and answer_start, its offset in characters")
    text, start = answer["text"], answer["answer_start"]
    if not text.strip():
        raise BadRow("an answer is empty")
    if start < 0 or not context.startswith(text, start):
        there = context[start:start + len(text)] if start >= 0 else ""
        raise BadRow(f"answer {text!r:.60} is not at character {start} of the context; {there!r:.60} is")
    return text, start


def _load(path: str | Path) -> Any:
    """A whole JSON file; raises `InputError` where it cannot be read."""
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error


def _questions(content: Any, bad: BadRows) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, cells) of every question of the official JSON, its context among the cells."""
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise InputError(f'{bad.name}: no SQuAD file; expected {{"data": [{{"paragraphs": [{{"context": "...", '
                         '"qas": [{"id": "...", "question": "...", "answers": [...]}]}]}]}')
    for a, article in enumerate(content["data"], start=1):
        for p, paragraph in enumerate(_part(article, "paragraphs", f"article {a}", bad), start=1):
            place = f"article {a}, paragraph {p}"
            for q, question in enumerate(_part(paragraph, "qas", place, bad), start=1):
                if isinstance(question, dict):
                    yield f"{place}, question {q}", {**question, "context": paragraph.get("context")}
                else:
                    bad.add(f"{place}, question {q}", f"is {question!r:.60}; it must be an object")


def _part(whole: Any, name: str, place: str, bad: BadRows) -> list[Any]:
    """A list within an object; where it is none, that is told, and nothing is in it."""
    part = whole.get(name) if isinstance(whole, dict) else None
    if isinstance(part, list):
        return part
    bad.add(place, f"has no list `{name}`")
    return []


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False,
                 labels_required: bool = False) -> Records:
    """The questions of one official file; `to_examples` looks after missing answers.

    Raises:
      InputError: names file and question, and what would be right.
    """
    records = Records(BadRows(str(path), skip_bad_rows))
    for place, cells in _questions(_load(path), records.bad):
        records.add(task, place, cells)
    return records


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool) -> Records:
    """Records of a split of a hub dataset (`datasets.Dataset`); rows are counted from 0."""
    records = Records(BadRows(where, skip_bad_rows))
    names = [name for name in (*task.hub.texts, task.hub.label, task.hub.ids) if name in split.column_names]
    for number, row in enumerate(zip(*(list(split[name]) for name in names), strict=True)):
        records.add(task, f"row {number}", dict(zip(names, row, strict=True)))
    return records


def _named(rows: Iterator[Row], bad: BadRows) -> Iterator[Row]:
    """Rows by name where the first one is a header."""
    first = next(rows, None)
    if first and isinstance(first[1], list) and "question" in first[1] and "context" in first[1]:
        return by_name(rows, first[1], bad)
    return itertools.chain([first] if first else [], rows)


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[SpanExamples, Report]:
    """Questions to predict for; answers are not looked at.

    Args:
      task: of spans.
      path: .json, the official one; else rows, "-" for standard input: {"question", "context"} and maybe "id", as
        JSONL or with a header; or the two texts.
      skip_bad_rows: count questions that cannot be read in place of stopping.
    """
    name = "standard input" if str(path) == "-" else str(path)
    records = Records(BadRows(name, skip_bad_rows))
    official = Path(path).suffix.lower() == ".json"
    rows = (_questions(_load(path), records.bad) if official
            else _named(read_rows(path, records.bad), records.bad))
    for place, cells in rows:
        if isinstance(cells, list) and len(cells) == 2:
            cells = dict(zip(("question", "context"), cells, strict=True))
        if isinstance(cells, dict):
            records.add(task, place, cells, answered=False)
        else:
            records.bad.add(place, f"{len(cells)} texts in place of two, question and context")
    return to_examples(task, records, labels_required=False)


def to_examples(task: Task, records: Records, labels_required: bool) -> tuple[SpanExamples, Report]:
    """The questions that can be used, and what was skipped.

    Args:
      task: of spans.
      records: of one split.
      labels_required: a question without an answer is bad; otherwise a split of nothing else has no answers.

    Raises:
      InputError: a question lacks its answer, or there is none at all.
    """
    given = labels_required or any(answers is not None for answers in records.answers)
    kept, ids = [], list(records.ids)
    for number, answers in enumerate(records.answers):
        if given and answers is None:
            hint = "" if task.unanswerable else "; --task=squad2 takes questions without one"
            records.bad.add(f"question {ids[number]}", f"has no answer{hint}")
        else:
            kept.append(number)
    if not kept:
        raise InputError(f"{records.bad.name}: no questions"
                         + (" that can be read" if records.bad.count else ""))
    return (SpanExamples([records.questions[n] for n in kept], [records.contexts[n] for n in kept],
                         [records.answers[n] for n in kept] if given else None, [ids[n] for n in kept],
                         [records.ids[ids[n]] for n in kept]),
            records.bad.report())


_METRICS = ("f1", "exact_match")
_HUB_SPLITS = {"train": "train", "dev": "validation"}


def _hub(path: str) -> Hub:
    return Hub(path, None, ("question", "context"), "answers", _HUB_SPLITS, "id")


TASKS = (
    Task("squad", "span", "which piece of a paragraph answers the question", _METRICS, pair=True,
         files={"train": "train-v1.1.json", "dev": "dev-v1.1.json"}, hub=_hub("rajpurkar/squad"), max_length=384),
    Task("squad2", "span", "the same, or does nothing in it", _METRICS, pair=True,
         files={"train": "train-v2.0.json", "dev": "dev-v2.0.json"}, hub=_hub("rajpurkar/squad_v2"),
         max_length=384, unanswerable=True),
)
