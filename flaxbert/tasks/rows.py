"""Rows of TSV, CSV and JSONL files, with their line numbers, and what to do about rows that cannot be read."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from flaxbert.errors import InputError, note

SHOWN = 3  # bad rows that a report spells out; the rest are only counted


class BadRow(ValueError):
    """One row cannot be used; the text says why and what would be right."""


class KnownBadRow(BadRow):
    """One row cannot be used, and files of its kind are known for such rows: it never stops a run."""


def whole(value: Any) -> Any:
    """The same value, if no text in it, however deep, has half of a character, as JSON may: "\\ud83d" alone.

    Raises:
      BadRow: one has; it could be neither tokenised nor written.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow(f"character {error.start} of a text is {value[error.start]!a}, half of a surrogate pair; "
                         "give both halves, or neither") from None
    elif isinstance(value, dict | list | tuple):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            whole(part)
    return value


@dataclass(frozen=True)
class Report:
    """What reading met.

    Attributes:
      skipped: file -> rows that were skipped as unreadable; only files with any.
      lines: what to tell the user.
    """

    skipped: dict[str, int] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report({**self.skipped, **other.skipped}, self.lines + other.lines)

    def tell(self) -> None:
        """Tells the user its lines."""
        for line in self.lines:
            note(line)


class BadRows:
    """The bad rows of one file: the first one stops the run, or, with `skip`, all are counted.

    Those that such files are known for (`KnownBadRow`) are counted either way.
    """

    def __init__(self, name: str, skip: bool):
        self.name, self.skip, self.messages, self.count = name, skip, [], 0

    def add(self, place: str, problem: object) -> None:
        """Counts one row; raises `InputError` naming file and place unless rows are to be skipped."""
        if not (self.skip or isinstance(problem, KnownBadRow)):
            raise InputError(f"{self.name}, {place}: {problem} (--skip_bad_rows leaves such rows out)")
        self.count += 1
        if len(self.messages) < SHOWN:
            self.messages.append(f"{place}: {problem}")

    def report(self) -> Report:
        """The count, and one line with the first few."""
        if not self.count:
            return Report()
        more = f"; and {self.count - SHOWN} more" if self.count > SHOWN else ""
        rows = "row" if self.count == 1 else "rows"
        return Report({self.name: self.count},
                      (f"{self.name}: skipped {self.count} bad {rows}: {'; '.join(self.messages)}{more}",))


Row = tuple[str, list[str] | dict[str, object]]  # its place ("line 7"), its cells


def text_lines(file: BinaryIO, bad: BadRows) -> Iterator[tuple[int, str]]:
    """Line numbers and lines, decoded one by one so that an encoding error has a line number.

    Lines end at \\n only: texts hold form feeds and Unicode line separators. Empty lines at the end are dropped.
    """
    empty: list[int] = []
    for number, raw in enumerate(file, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            bad.add(f"line {number}", f"not UTF-8 text (byte {raw[error.start]:#04x}); convert the file to UTF-8")
            continue
        if not line.strip(" "):
            empty.append(number)
            continue
        yield from ((blank, "") for blank in empty)
        empty.clear()
        yield number, line


def _tsv(file: BinaryIO, bad: BadRows) -> Iterator[Row]:
    """Tab-separated cells; a quotation mark is a character like any other."""
    for number, line in text_lines(file, bad):
        yield f"line {number}", line.split("\t")


def _csv(file: BinaryIO, bad: BadRows) -> Iterator[Row]:
    """Comma-separated cells with standard quoting; a quoted cell may span lines."""
    last = 0

    def feed() -> Iterator[str]:
        nonlocal last
        for last, line in text_lines(file, bad):  # noqa: B007 (read below: the line the parser has come to)
            yield line + "\n"

    parser = csv.reader(feed(), strict=True)
    while True:
        start = last + 1
        try:
            cells = next(parser)
        except StopIteration:
            return
        except csv.Error as error:
            bad.add(f"line {start}", f"not CSV: {error}")
            continue
        yield f"line {start}", cells


def _jsonl(file: BinaryIO, bad: BadRows) -> Iterator[Row]:
    """One JSON object a line; for inputs of `predict` also a string, or a list of two strings."""
    for number, line in text_lines(file, bad):
        try:
            value = whole(json.loads(line))
        except json.JSONDecodeError as error:
            bad.add(f"line {number}", f"not JSON ({error.msg}); each line holds one object")
            continue
        except BadRow as error:
            bad.add(f"line {number}", error)
            continue
        value = [value] if isinstance(value, str) else value
        if isinstance(value, dict | list):
            yield f"line {number}", value
        else:
            bad.add(f"line {number}", f"not a JSON object: {line[:40]}")


def read_lines(path: str | Path, bad: BadRows) -> Iterator[tuple[int, str]]:
    """Line numbers and lines of a file of text; empty lines at the end are dropped.

    Args:
      path: UTF-8, with or without a byte-order mark.
      bad: is told of the lines that cannot be read.

    Raises:
      InputError: the file cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            yield from text_lines(file, bad)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


FORMATS = {".tsv": _tsv, ".txt": _tsv, ".csv": _csv, ".jsonl": _jsonl, ".json": _jsonl}


def is_json(line: bytes) -> bool:
    """Whether a line is a JSON object, list or string; a text too may begin with a bracket."""
    try:
        return isinstance(json.loads(line), dict | list | str)
    except ValueError:
        return False


def read_rows(path: str | Path, bad: BadRows) -> Iterator[Row]:
    """Yields (place, cells) of every row, the header included: a list, or for JSONL a dict.

    Args:
      path: a file of one of FORMATS by its ending, or "-" for standard input: JSONL if its first
        line is JSON, else TSV.
      bad: is told of the rows that cannot be read.

    Raises:
      InputError: the file cannot be opened, or has another ending.
    """
    if str(path) == "-":
        content = sys.stdin.buffer.read()
        reader = _jsonl if is_json(content.strip().partition(b"\n")[0]) else _tsv
        yield from reader(io.BytesIO(content), bad)
        return
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{path}: unknown kind of file; valid endings: {', '.join(FORMATS)}")
    try:
        with open(path, "rb") as file:
            yield from FORMATS[ending](file, bad)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
