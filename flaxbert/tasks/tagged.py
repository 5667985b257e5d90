"""Predicted tags as the script conlleval wants them: the columns up to the right tag, then the predicted one."""

import re
from collections.abc import Sequence
from pathlib import Path

from flaxbert.errors import InputError
from flaxbert.tasks.base import Task, TokenExamples
from flaxbert.tasks.conll import DOCUMENT, columns, content, in_sentences
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
        rows = [[word, *tag] for word, tag in zip(words, gold, strict=True)]
        if examples.rows:  # a file's own columns, and its lines between documents
            end = columns(task).label % len(examples.rows[n][0]) + 1
            rows = [row[:end] for row in examples.rows[n]]
            begin = [DOCUMENT, *["-X-"] * (end - 2), "O"][:end]
            lines += [" ".join([*begin, "O"]), ""] * (examples.documents[n] - document)
            document = examples.documents[n]
        lines += [" ".join([*map(_cell, row), tag]) for row, tag in zip(rows, predicted, strict=True)] + [""]
    path = folder / f"{task.submission.get(split, task.name if split == 'test' else f'{task.name}.{split}')}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def _fault(task: Task, cells: list[str], word: str) -> str:
    """What is wrong with a line of predictions; `word` should be there, "" where the sentence has ended."""
    if cells[0] != word:
        return f"{cells[0]!r} where the split has {repr(word) if word else 'the end of a sentence'}"
    return "" if cells[-1] in task.labels else f"unknown label {cells[-1]!r}; valid: {', '.join(task.labels)}"


def read(task: Task, path: str | Path, examples: TokenExamples) -> list[list[str]]:
    """The predicted tags of each sentence, from the last column of a file of the same sentences.

    Raises:
      InputError: names file and line where it does not go with the sentences, or has a label that there is not.
    """
    bad, found = BadRows(str(path), skip=True), []
    for _, lines in in_sentences(content(path)[1], bad):
        words = list(map(_cell, examples.words[len(found)])) if len(found) < len(examples) else []
        for i, (place, cells) in enumerate(lines):
            wrong = _fault(task, cells, words[i] if i < len(words) else "")
            if wrong:
                raise InputError(f"{path}, {place}: {wrong}")
        if len(lines) < len(words):
            raise InputError(f"{path}, {lines[-1][0]}: the sentence ends where the split's goes on with "
                             f"{words[len(lines)]!r}")
        found.append([cells[-1] for _, cells in lines])
    if bad.count:
        raise InputError(f"{path}, {bad.messages[0]}")
    if len(found) < len(examples):
        raise InputError(f"{path}: {len(found)} sentences; the split has {len(examples)}")
    return found
