"""Predicted tags as the script conlleval wants them: the columns up to the right tag, then the predicted one.

Both tags are in IOB2, whichever scheme the task's own file is in.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from flaxbert.errors import InputError
from flaxbert.tasks import iob
from flaxbert.tasks.base import Task, TokenExamples
from flaxbert.tasks.conll import DOCUMENT, Lines, columns, content, in_sentences, marks_spans
from flaxbert.tasks.rows import BadRows


def _cell(word: str) -> str:
    """A word as one cell; those of other sources than files may hold spaces, or nothing."""
    return re.sub(r"[ \t\r\n]+", "_", word) or "_"


def write(task: Task, split: str, tags: Sequence[Sequence[str]], examples: TokenExamples, folder: Path) -> Path:
    """Writes folder/TASK.SPLIT.txt, or TASK.txt of the test split.

    Args:
      task: tells the column of the right tag.
      split: its name.
      tags: the predicted ones of each sentence.
      examples: the sentences.
      folder: made if need be.
    """
    lines, document = [], 0
    for n, (words, predicted) in enumerate(zip(examples.words, tags, strict=True)):
        gold = [[task.labels[label]] for label in examples.labels[n]] if examples.labels else [[]] * len(words)
        before = [[word] for word in words]
        if examples.rows:  # a file's own columns, and its lines between documents
            place = columns(task).label % len(examples.rows[n][0]) or 1
            before = [row[:place] for row in examples.rows[n]]
            if examples.documents[n] != document:
                lines += [" ".join([DOCUMENT, *["-X-"] * (place - 1), *["O"] * len(gold[0]), "O"]), ""]
                document = examples.documents[n]
        lines += [" ".join([*map(_cell, (*row, *tag)), guess])
                  for row, tag, guess in zip(before, gold, predicted, strict=True)] + [""]
    path = folder / f"{task.submission.get(split, task.name if split == 'test' else f'{task.name}.{split}')}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def _difference(lines: Lines, words: list[str]) -> tuple[str, str] | None:
    """Where and how a sentence of predictions is not of these words; None where it is."""
    for (place, cells), word in itertools.zip_longest(lines, words[:len(lines)], fillvalue=""):
        if cells[0] != word:
            return place, f"{cells[0]!r} where the split has {repr(word) if word else 'the end of a sentence'}"
    if len(lines) < len(words):
        return lines[-1][0], f"the sentence ends where the split's goes on with {words[len(lines)]!r}"
    return None


def read(task: Task, path: str | Path, examples: TokenExamples, skip_bad_rows: bool = False) -> list[list[str]]:
    """The predicted tags of each sentence, from the last column of a file of the same sentences.

    Args:
      task: with its labels.
      path: the file; its other columns, and lines between documents, do not matter. Its tags are in IOB2, or as
        those of the sentences' own file were.
      examples: the sentences.
      skip_bad_rows: leave out, and count in a note, what is not among the sentences, as bad ones of the split are.

    Raises:
      InputError: names file and line where it does not go with the sentences, or has a label that there is not.
    """
    bad, found = BadRows(str(path), skip_bad_rows), []
    for _, lines in in_sentences(content(path)[1], bad):
        words = list(map(_cell, examples.words[len(found)])) if len(found) < len(examples) else []
        different = _difference(lines, words)
        if different and skip_bad_rows:
            bad.add(*different)
        elif different:
            raise InputError(f"{path}, {': '.join(different)}")
        else:
            unknown = next((line for line in lines if line[1][-1] not in task.labels), None)
            if unknown:
                raise InputError(f"{path}, {unknown[0]}: unknown label {unknown[1][-1]!r}; valid: "
                                 f"{', '.join(task.labels)}")
            found.append([cells[-1] for _, cells in lines])
    if len(found) < len(examples):
        left_out = f"; left out: {'; '.join(bad.messages)}" if bad.count else ""
        raise InputError(f"{path}: {len(found)} sentences; the split has {len(examples)}{left_out}")
    bad.report().tell()
    as_the_split = _came_in_iob1(task, examples) and iob.scheme(found) == "IOB1"
    return list(map(iob.to_iob2, found)) if as_the_split else found


def _came_in_iob1(task: Task, examples: TokenExamples) -> bool:
    """Whether the file that the sentences are from has its tags in IOB1."""
    place = columns(task).label % len(examples.rows[0][0]) if examples.rows else 0
    if not place or not marks_spans(task):
        return False
    return iob.scheme([row[place] for row in rows] for rows in examples.rows) == "IOB1"


def labels(task: Task, path: str | Path) -> list[str]:
    """The labels of such a file, for a task without its own; where they mark spans, those that are tags."""
    sentences = in_sentences(content(path)[1], BadRows(str(path), skip=True))
    found = [cells[-1] for _, lines in sentences for _, cells in lines]
    return iob.complete(filter(iob.TAG.fullmatch, found)) if marks_spans(task) else found
