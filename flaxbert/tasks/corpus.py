"""Running text for pre-training: one paragraph a line, a blank line between documents."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.tasks import files
from flaxbert.tasks.base import HUB_SPLITS, Documents, Examples, Hub, Task
from flaxbert.tasks.rows import BadRows, Report, read_lines

TASK = Task("pretrain", "pretraining", "masked words of running text, see below",
            ("perplexity", "mlm_accuracy"), hub=Hub("", None, ("text",), "", HUB_SPLITS))
TASKS = (TASK,)
FILES = "--train_file [--dev_file] [--test_file]: text, one paragraph a line, a blank line between documents"
HELD_OUT = 0.01  # share of the training text that is dev where no other is given


def resolve(config: Config) -> Task:
    """The task with the two answers that --next_sentence asks for; without it, it has no labels."""
    return dataclasses.replace(TASK, labels=("next", "random") if config.next_sentence else ())


@dataclass
class Records:
    """The documents of one split.

    Attributes:
      bad: knows the name and counts lines that cannot be read.
      documents: each as its paragraphs, none of them blank.
      labels: none; the words themselves are asked for.
      report: what was met in reading.
    """

    bad: BadRows
    documents: list[list[str]] = field(default_factory=list)
    labels: tuple = ()
    report: Report = field(default_factory=Report)

    def add(self, lines: Iterable[str]) -> None:
        """Takes in lines; blank ones, and the end, end a document."""
        paragraphs: list[str] = []
        for line in (*lines, ""):
            if line.strip():
                paragraphs.append(line.strip())
            elif paragraphs:
                self.documents.append(paragraphs)
                paragraphs = []


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False,
                 labels_required: bool = False) -> Records:
    """The documents of a text file, or of the .txt files of a folder in the order of their names.

    Args:
      task: not looked at.
      path: the file or folder; the end of a file ends a document.
      skip_bad_rows: count lines that are not UTF-8 in place of stopping.
      labels_required: not looked at.

    Raises:
      InputError: names the file, and the line where there is one.
    """
    folder = Path(path).is_dir()
    paths = sorted(Path(path).glob("*.txt")) if folder else [Path(path)]
    if not paths:
        raise InputError(f"{path}: no .txt file in this folder")
    records = Records(BadRows(str(path), skip_bad_rows))
    for each in paths:
        bad = BadRows(str(each), skip_bad_rows)
        records.add(line for _, line in read_lines(each, bad))
        records.report += bad.report()
    return records


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool) -> Records:
    """Documents of a split of a hub dataset, whose rows are paragraphs or blank."""
    records = Records(BadRows(where, skip_bad_rows))
    def lines() -> Iterator[str]:
        for number, line in enumerate(split[task.hub.texts[0]]):
            if isinstance(line, str):
                yield line
            else:
                records.bad.add(f"row {number}", f"the text is {line!r}; it must be a string")
    records.add(lines())
    records.report += records.bad.report()
    return records


def hold_out(train: Records, least: int = 1) -> tuple[Records, Records]:
    """Train and dev: the last 1 % of the documents, `least` at least; of a lone document, of its paragraphs.

    Raises:
      InputError: nothing would be left.
    """
    parts, lone = train.documents, len(train.documents) == 1
    if lone:
        parts = [[paragraph] for paragraph in train.documents[0]]
        line = f"{train.bad.name}: one document, with no blank line in it; the last of its paragraphs are held out"
        train.report += Report(lines=(line,))
    if len(parts) <= least:
        count = f"{len(parts)} {'paragraph' if lone else 'documents'}" if parts else "no text"
        raise InputError(f"{train.bad.name}: {count}, nothing to hold out; give --dev_file, or more text: one "
                         "paragraph a line, a blank line between documents")
    cut = len(parts) - max(least, round(HELD_OUT * len(parts)))
    kept, held = parts[:cut], parts[cut:]
    if lone:
        kept, held = ([[paragraph for part in side for paragraph in part]] for side in (kept, held))
    return (dataclasses.replace(train, documents=kept),
            Records(BadRows(f"{train.bad.name}, held out", train.bad.skip), held))


def to_examples(task: Task, records: Records, labels_required: bool) -> tuple[Documents, Report]:
    """The documents, and what was met in reading them; raises `InputError` where there are none."""
    if not records.documents:
        raise InputError(f"{records.bad.name}: no text; it should be one paragraph a line, with a blank line "
                         "between documents")
    ids = [str(number) for number in range(len(records.documents))]
    return Documents(records.documents, ids), records.report


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[Examples, Report]:
    """Texts with [MASK] in them, one a line; arguments as of `files.read_inputs`."""
    return files.read_inputs(dataclasses.replace(task, kind="regression"), path, skip_bad_rows)
