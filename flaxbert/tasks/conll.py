"""Words in columns, each with its tag: CoNLL-2003 (Tjong Kim Sang and De Meulder 2003), and any file of its form.

One word a line with its columns between spaces or tabs, a blank line after each sentence; a line that begins with
-DOCSTART- begins a document and is no word. The first column is the word; which one is the tag, the task tells.
Tags that mark spans may be in IOB1, as the original files are, or in IOB2, and are in IOB2 from here on.
"""

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flaxbert.errors import InputError
from flaxbert.tasks import iob, sentences
from flaxbert.tasks.base import HUB_SPLITS, Hub, Layout, Task, TokenExamples
from flaxbert.tasks.labels import PARSERS, numbering
from flaxbert.tasks.rows import BadRow, BadRows, Report, is_json

DOCUMENT = "-DOCSTART-"
EMPTY = f"an empty document: no sentence after {DOCUMENT}"
_CELL = re.compile(r"[^ \t\r\n]+")  # words may hold all other white space of Unicode
Lines = list[tuple[str, list[str]]]  # of each word its place ("line 7") and its cells


class Columns(Layout):
    """Words in columns; `label` is the column of the tag, -1 the last."""

    def __str__(self) -> str:
        tag = "the last" if self.label == -1 else f"number {self.label + 1}"
        return f"one word a line, blank lines between sentences; the first column is the word, {tag} its tag"


WORD_AND_TAG = Columns((0,), -1)  # of a task of which nothing but the labels is known, too


class Sentence(NamedTuple):
    """One sentence as a file has it: where each word stands, its cells, its tag; the number of its document."""

    places: list[str]
    rows: list[tuple[str, ...]]
    tags: list[str] | None
    document: int = 0


@dataclass
class Records:
    """One split before tags become numbers.

    Attributes:
      bad: knows the file's name and counts its bad sentences.
      spans: the tags mark spans.
      sentences: the good ones.
      notes: what to tell the user.
    """

    bad: BadRows
    spans: bool
    sentences: list[Sentence] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The names of the labels; of some more than once."""
        tags = (tag for sentence in self.sentences for tag in sentence.tags or ())
        return iob.complete(tags) if self.spans else list(tags)

    def check(self, scheme: str = "") -> None:
        """Leaves out the sentences with a tag that cannot be; arguments as of `iob.fault`."""
        kept = []
        for sentence in self.sentences:
            fault = iob.fault(sentence.tags or (), scheme)
            if fault:
                self.bad.add(sentence.places[fault[0]], fault[1])
            else:
                kept.append(sentence)
        self.sentences = kept

    def unified(self) -> "Records":
        """The same with all spans in IOB2."""
        if self.spans:
            self.check()
            scheme = iob.scheme(sentence.tags or () for sentence in self.sentences)
            self.check(scheme)
            if scheme == "IOB1":
                self.notes = (f"{self.bad.name}: its tags are IOB1, read as IOB2",)
                self.sentences = [each._replace(tags=iob.to_iob2(each.tags)) for each in self.sentences]
        return self


def marks_spans(task: Task) -> bool:
    """Whether the tags of a task mark spans, by which it is then judged, or stand for themselves."""
    return "f1" in task.metrics and all(map(iob.TAG.fullmatch, task.labels))


def columns(task: Task) -> Columns:
    """How the files of a task are laid out."""
    return next(iter(task.layouts), WORD_AND_TAG)


def content(path: str | Path) -> tuple[str, bytes]:
    """What to call a file, and what is in it; "-" is standard input."""
    if str(path) == "-":
        return "standard input", sys.stdin.buffer.read()
    try:
        return str(path), Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def in_sentences(text: bytes, bad: BadRows, documents: bool = False) -> Iterator[tuple[int, Lines]]:
    """(number of its document, lines) of every sentence, from 0 before the first -DOCSTART-.

    Args:
      text: of a file.
      bad: is told of sentences with lines that are not UTF-8, or have not as many cells as the first line.
      documents: and of documents without a sentence.
    """
    document, width, lines, problem = 0, 0, [], None
    empty = ""  # where a document begins that has had no sentence yet
    for number, raw in enumerate(itertools.chain(text.split(b"\n"), [b""]), start=1):
        place = f"line {number}"
        try:
            cells = _CELL.findall(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            problem = problem or (place, f"not UTF-8 text (byte {raw[error.start]:#04x}); convert it to UTF-8")
            continue
        begins = bool(cells) and cells[0].startswith(DOCUMENT)
        if cells and not begins:
            width = width or len(cells)
            if len(cells) != width:
                problem = problem or (place, f"{len(cells)} columns where the first line has {width}; columns "
                                             "stand between spaces or tabs")
            lines.append((place, cells))
            continue
        if problem:
            bad.add(*problem)
        elif lines:
            yield document, lines
        empty = "" if problem or lines else empty
        if begins:
            if empty and documents:
                bad.add(empty, EMPTY)
            empty = place
        document, lines, problem = document + begins, [], None
    if empty and documents and width:  # a file without any word is told of elsewhere
        bad.add(empty, EMPTY)


def _records(task: Task, name: str, text: bytes, skip_bad_rows: bool, tagged: bool, required: bool) -> Records:
    """The sentences of a file; their tags are looked at where `tagged`, and must be there where `required`."""
    layout = columns(task)
    least = 2 if layout.label == -1 else layout.label + 1
    records = Records(BadRows(name, skip_bad_rows), tagged and marks_spans(task))
    for document, lines in in_sentences(text, records.bad, documents=True):
        places, rows = [place for place, _ in lines], [tuple(cells) for _, cells in lines]
        there = len(rows[0]) >= least
        if required and not there:
            raise InputError(f"{name}, {places[0]}: {len(rows[0])} columns; {task.name} reads {layout}")
        tags = [row[layout.label] for row in rows] if tagged and there else None
        records.sentences.append(Sentence(places, rows, tags, document))
    if not records.sentences and not records.bad.count:
        raise InputError(f"{name}: empty; {task.name} reads {layout}")
    return records.unified()


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False,
                 labels_required: bool = False) -> Records:
    """The sentences of one file.

    Args:
      task: tells the column of the tag (its labels are not looked at).
      path: a file in columns; "-" is standard input.
      skip_bad_rows: count sentences that cannot be read in place of stopping.
      labels_required: a file without a column for the tag is an error.

    Raises:
      InputError: names file, line and what would be right.
    """
    return _records(task, *content(path), skip_bad_rows, True, labels_required)


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool) -> Records:
    """Records of a split of a hub dataset: a row is a list of words and one of tags, or of their numbers."""
    tagged = task.hub.label in split.column_names
    names = getattr(getattr(split.features.get(task.hub.label), "feature", None), "names", None) or task.labels
    spelled = dict(enumerate(names))
    records = Records(BadRows(where, skip_bad_rows), tagged and marks_spans(task))
    for number, row in enumerate(split.select_columns([*task.hub.texts, *([task.hub.label] if tagged else [])])):
        words, tags = row[task.hub.texts[0]], row.get(task.hub.label)
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            records.bad.add(f"row {number}", f"{words!r:.60} is no list of words")
        elif tagged and (not isinstance(tags, list) or len(tags) != len(words)):
            records.bad.add(f"row {number}", f"{len(words)} words, tags {tags!r:.60}; each word needs one")
        else:
            records.sentences.append(Sentence(
                [f"row {number}, word {i}" for i in range(len(words))], [(word,) for word in words],
                [str(spelled.get(tag, tag)) for tag in tags] if tagged else None))
    return records.unified()


def to_examples(task: Task, records: Records, labels_required: bool) -> tuple[TokenExamples, Report]:
    """Turns tags into numbers; a tag that the task does not know makes a bad sentence.

    Raises:
      InputError: a bad sentence, or no usable one.
    """
    kept, labels, numbers = [], [], numbering(task)
    for sentence in records.sentences:
        found: list[int] = []
        try:
            for tag in sentence.tags or ():
                found.append(PARSERS[task.kind](tag, numbers))
        except BadRow as error:
            records.bad.add(sentence.places[len(found)], error)
            continue
        kept.append(sentence)
        labels.append(found)
    if not kept:
        raise InputError(f"{records.bad.name}: no sentences that can be read")
    return (TokenExamples([[row[0] for row in sentence.rows] for sentence in kept],
                          None if kept[0].tags is None else labels, [sentence.document for sentence in kept],
                          [str(number) for number in range(len(kept))], [sentence.rows for sentence in kept]),
            records.bad.report() + Report(lines=records.notes))


def _is_in_columns(task: Task, text: bytes) -> bool:
    """Whether a file holds words in columns, and not a text a line.

    It begins with -DOCSTART-; or all its lines have the same number of cells, more than one, and either blank
    lines stand between them or the cells of the tags are all labels.
    """
    lines = [_CELL.findall(line) for line in text.decode("utf-8", "replace").rstrip(" \t\r\n").split("\n")]
    if lines[0] and lines[0][0].startswith(DOCUMENT):
        return True
    column, widths = columns(task).label, {len(cells) for cells in lines if cells}
    if len(widths) != 1 or max(widths) < 2:
        return False
    return [] in lines or (max(widths) > column and all(cells[column] in task.labels for cells in lines))


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[TokenExamples, Report]:
    """Sentences to predict for; labels are not looked at.

    Args:
      task: tells the column of the tag.
      path: words in columns; or a text a line; or, in a file that ends in .jsonl, one a line of what
        `sentences.words_of` takes. "-" is standard input: JSON where its first line is.
      skip_bad_rows: count what cannot be read in place of stopping.

    Raises:
      InputError: names file, line and what would be right.
    """
    name, text = content(path)
    if not text.strip():
        raise InputError(f"{name}: empty; a text a line is expected, or words in columns")
    as_json = (is_json(text.strip().partition(b"\n")[0]) if str(path) == "-"
               else Path(path).suffix.lower() in (".jsonl", ".json"))
    if as_json or not _is_in_columns(task, text):
        return sentences.read(name, text, as_json, skip_bad_rows)
    records = _records(task, name, text, skip_bad_rows, tagged=False, required=False)
    return to_examples(task, records, labels_required=False)


SPANS = ("f1", "precision", "recall", "accuracy")
NAMES = ("O", *(f"{letter}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for letter in "BI"))
_FILES = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}


def _hub(path: str, tags: str) -> Hub:
    return Hub(path, None, ("tokens",), tags, HUB_SPLITS, "id", "refs/convert/parquet" if path else None)


_REUTERS = "eriktks/conll2003"
TASKS = (
    Task("conll2003", "token", "the names in news, of four kinds", SPANS, NAMES,
         layouts=(WORD_AND_TAG,), files=_FILES, hub=_hub(_REUTERS, "ner_tags")),
    Task("conll2003_pos", "token", "the part of speech of each word", ("accuracy",),
         layouts=(Columns((0,), 1),), files=_FILES, hub=_hub(_REUTERS, "pos_tags")),
    Task("conll2003_chunk", "token", "the phrases of a sentence: noun, verb, ...", SPANS,
         layouts=(Columns((0,), 2),), files=_FILES, hub=_hub(_REUTERS, "chunk_tags")),
    Task("ner", "token", "your own files of words in columns", SPANS, layouts=(WORD_AND_TAG,),
         files={"train": "train.txt", "dev": "dev.txt", "test": "test.txt"}, hub=_hub("", "ner_tags")),
)
