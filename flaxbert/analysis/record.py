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


def claim(output: str) -> Path | None:
    """The folder that --output names, made if need be; None where it names none.

    Raises:
      InputError: it holds an analysis, a run or the like already, or cannot be written.
    """
    if not output:
        return None
    folder = Path(output).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--output={output}: cannot be written ({error.strerror})") from error
    for file, what in TAKEN.items():
        if (folder / file).exists():
            raise InputError(f"--output={output}: holds {what} already; give another folder, or delete it")
    return folder


class Record:
    """The folder of an analysis as it grows: after each `add` it holds what was measured, and says what was not.

    A context: where an analysis cannot be measured, or somebody stops it, what was added stays, and a line tells.

    Args:
      folder: from `claim`; None: nothing is written.
      subject: a `subject.Subject`.
    """

    def __init__(self, folder: Path | None, subject: Any):
        self._folder, self._subject = folder, subject
        self._rows: dict[str, Sequence[Row]] = {}
        self._state = dict.fromkeys(subject.settings.what, WAITS)

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        waiting = [name for name, state in self._state.items() if state == WAITS]
        if not self._rows or not self._folder or not waiting:
            return
        self._state[waiting[0]] = " ".join(str(error).split()) if isinstance(error, Exception) else STOPPED
        self._tell()
        note(f"{self._folder}: holds what was measured before: {', '.join(self._rows)}")

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Takes in the rows of an analysis, and writes them, its table and its picture."""
        self._rows[name], self._state[name] = rows, MEASURED
        if not self._folder:
            return
        part = self._folder / f"{FILE}.part"
        part.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for own in self._rows.values()
                                for row in own), "utf-8")
        part.replace(self._folder / FILE)
        self._tell()
        analysis, picture = ANALYSES[name], self._folder / f"{name}.png"
        if draw := analysis.own("figure", None):
            draw(rows, picture)
        else:
            figures.lines(rows, picture, analysis.bounds)

    def _tell(self) -> None:
        """Writes analysis.json and table.md."""
        subject = self._subject
        looked_at = subject.__dict__.get("texts", {})  # only if some analysis asked for them
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
