"""What `flaxbert analyze` leaves: rows.jsonl, table.md, a picture of each analysis, analysis.json about them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxbert import records
from flaxbert.analysis import figures
from flaxbert.analysis.base import ANALYSES, Row
from flaxbert.errors import InputError, note

FILE = "rows.jsonl"
TAKEN = {FILE: "an analysis", "config.json": "a run or a model", "sweep.json": "a sweep",
         "summary.json": "the record of a study"}  # of what a folder may hold, that which is not to be mixed
MEASURED, WAITS, STOPPED = "measured", "not begun", "interrupted"  # what analysis.json says of each analysis
NO_LAYER = "none"  # in tables


def free(output: str) -> Path | None:
    """The folder that --output names, which is not made; None where it names none.

    Raises:
      InputError: it holds an analysis, a run or the like already.
    """
    if not output:
        return None
    folder = Path(output).expanduser()
    for file, what in TAKEN.items():
        if (folder / file).exists():
            raise InputError(f"--output={output}: holds {what} already; give another folder, or delete it")
    return folder


class Record:
    """The folder of analyses as it grows: after each `measure` it holds what was measured, and says what was not.

    A context: makes the folder. Where an analysis cannot be measured, or somebody stops it, what was measured
    before stays, and a line tells.

    Args:
      folder: from `free`; None: nothing is written.
      subject: a `subject.Subject`.

    Raises:
      InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None, subject: Any):
        self._folder, self._subject = folder, subject
        self._rows: dict[str, Sequence[Row]] = {}
        self._state = dict.fromkeys(subject.settings.what, WAITS)
        self._begun = ""  # the analysis that was begun last

    def __enter__(self) -> "Record":
        if self._folder:
            records.make(self._folder, "output")
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not self._rows or not self._folder or WAITS not in self._state.values():
            return
        if self._state[self._begun] == WAITS:
            self._state[self._begun] = " ".join(str(error).split()) if isinstance(error, Exception) else STOPPED
        self._tell()
        note(f"{self._folder}: holds what was measured before: {', '.join(self._rows)}")

    def measure(self, name: str) -> list[Row]:
        """The rows of an analysis, once they, its table and its picture are written; errors are its own."""
        self._begun, analysis = name, ANALYSES[name]
        rows = analysis.measure(self._subject)
        found = {**self._rows, name: rows}
        if self._folder:
            part = self._folder / f"{FILE}.part"
            part.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for own in found.values()
                                    for row in own), "utf-8")
            part.replace(self._folder / FILE)
        self._rows, self._state[name] = found, MEASURED  # only now is it true
        if self._folder:
            self._tell()
            picture = self._folder / f"{name}.png"
            if draw := analysis.own("figure", None):
                draw(rows, picture)
            else:
                figures.lines(rows, picture, analysis.bounds)
        return rows

    def _tell(self) -> None:
        """Writes analysis.json and table.md."""
        subject = self._subject
        looked_at = subject.__dict__.get("texts", {})  # only where some analysis looks at them
        records.write_json(self._folder / "analysis.json", {
            "analyses": self._state, "settings": dataclasses.asdict(subject.settings),
            "versions": records.versions(), "models": subject.pair.describe(),
            "texts": {text.name: {"source": text.source, "sequences": len(text.encoded), "tokens": text.tokens}
                      for text in looked_at.values()}})
        missing = [name if state == WAITS else f"{name} ({state})" for name, state in self._state.items()
                   if state != MEASURED]
        sections = [f"Not measured: {'; '.join(missing)}.\n"] if missing else []
        sections += [f"## {name}\n\n{ANALYSES[name].about}\n\n{markdown(table(name, own))}\n\n"
                     f"![{name}]({name}.png)\n" for name, own in self._rows.items()]
        (self._folder / "table.md").write_text("\n".join(sections), "utf-8")


def table(analysis: str, rows: Sequence[Row]) -> list[list[str]]:
    """The rows of one analysis as cells, the first line the header."""
    return ANALYSES[analysis].own("table", by_layer)(rows)


def by_layer(rows: Sequence[Row]) -> list[list[str]]:
    """Layers from top to bottom, texts and measures from left to right."""
    columns = {f"{figures.label(row)} {row['measure']}".strip(): None for row in rows}
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        layer = NO_LAYER if row["layer"] is None else figures.layer_name(row["layer"])
        value = "" if row["value"] is None else f"{row['value']:.5g}"
        cells.setdefault(layer, {})[f"{figures.label(row)} {row['measure']}".strip()] = value
    return [["layer", *columns], *([layer, *(each.get(name, "") for name in columns)]
                                   for layer, each in cells.items())]


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    head, *body = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([head, "| --- " + "| ---: " * (len(cells[0]) - 1) + "|", *body])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Cells as text: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width)
                               in enumerate(zip(line, widths, strict=True))).rstrip() for line in cells)
