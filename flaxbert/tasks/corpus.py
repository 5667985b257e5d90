"""Running text for pre-training: one paragraph a line, a blank line between documents."""

import dataclasses
import itertools
import unicodedata
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
            ("perplexity", "mlm_accuracy"), hub=Hub("", None, ("text",), "", HUB_SPLITS),
            usage=("--train_file [--dev_file] [--test_file]",
                   "text, one paragraph a line, blank lines between documents; or a folder of such .txt files"))
TASKS = (TASK,)
HELD_OUT = 0.01  # share of the training text that is dev where no other is given
NEXT_SENTENCE = ("next", "random")  # what segments.NEXT and RANDOM are called
# What BERT's tokenizer drops: control, format and unknown characters, white space, accents that stand on nothing.
UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs", "Mn"})


def resolve(config: Config) -> Task:
    """The task with the two answers that --next_sentence asks for; without it, it has no labels."""
    return dataclasses.replace(TASK, labels=NEXT_SENTENCE if config.next_sentence else ())


def is_empty(text: str) -> bool:
    """Whether nothing in a text is to be seen."""
    return all(unicodedata.category(character) in UNSEEN or character == "\ufffd" for character in text)


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

    def add(self, lines: Iterable[tuple[str, str]], bad: BadRows) -> None:
        """Takes in (place, line) pairs; blank lines, and the end, end a document. `bad` is told of empty ones."""
        paragraphs: list[str] = []
        begin = ""
        for place, line in itertools.chain(lines, [("", "")]):
            if line.strip():
                begin = begin if paragraphs else place
                paragraphs.append(line.strip())
            elif paragraphs:
                if all(map(is_empty, paragraphs)):
                    bad.add(begin, "an empty document: nothing but characters that are not to be seen")
                else:
                    self.documents.append(paragraphs)
                paragraphs = []


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False,
                 labels_required: bool = False) -> Records:
    """The documents of a text file, or of the .txt files of a folder in the order of their names.

    Args:
      task: not looked at.
      path: the file or folder; the end of a file ends a document.
      skip_bad_rows: count lines that are not UTF-8, and empty documents, in place of stopping.
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
        bad, before = BadRows(str(each), skip_bad_rows), len(records.documents)
        records.add(((f"line {number}", line) for number, line in read_lines(each, bad)), bad)
        if folder and len(records.documents) == before and not bad.count:
            bad.add("line 1", "an empty document: the file has no text")
        records.report += bad.report()
    return records


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool) -> Records:
    """Documents of a split of a hub dataset, whose rows are paragraphs or blank."""
    records = Records(BadRows(where, skip_bad_rows))
    def lines() -> Iterator[tuple[str, str]]:
        for number, line in enumerate(split[task.hub.texts[0]]):
            if isinstance(line, str):
                yield f"row {number}", line
            else:
                records.bad.add(f"row {number}", f"the text is {line!r}; it must be a string")
    records.add(lines(), records.bad)
    records.report += records.bad.report()
    return records


def hold_out(train: Records, config: Config) -> tuple[Records, Records]:
    """Train and dev: the last 1 % of the documents; of a lone document, of its paragraphs.

    Raises:
      InputError: nothing would be left.
    """
    least = 1 + config.next_sentence  # which needs two documents
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
