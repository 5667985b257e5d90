"""What an analysis leaves: rows.jsonl, table.md, a picture of each analysis, and analysis.json about them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxbert import records
from flaxbert.analysis import figures
from flaxbert.analysis.base import ANALYSES, Row, by_analysis
from flaxbert.errors import InputError

FILE = "rows.jsonl"
NO_LAYER = "none"  # in tables


def claim(output: str) -> Path | None:
    """The folder that --output names, made if need be; None where it names none.

    Raises:
      InputError: it holds an analysis already, or cannot be made.
    """
    if not output:
        return None
    folder = Path(output).expanduser()
    if (folder / FILE).exists():
        raise InputError(f"--output={output}: holds an analysis already; give another folder, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output={output}: cannot be made: {error.strerror}") from error
    return folder


def write(folder: Path, subject: Any, rows: Sequence[Row]) -> None:
    """Writes all of it; rows.jsonl comes last: where it is, the rest is.

    Args:
      folder: from `claim`.
      subject: a `subject.Subject`.
      rows: of all analyses.
    """
    looked_at = subject.__dict__.get("texts", {})  # only if some analysis asked for them
    records.write_json(folder / "analysis.json", {
        "settings": dataclasses.asdict(subject.settings), "versions": records.versions(),
        "models": subject.pair.describe(),
        "texts": {text.name: {"source": text.source, "texts": len(text.encoded), "tokens": text.tokens}
                  for text in looked_at.values()}})
    sections = []
    for name, own in by_analysis(rows).items():
        analysis = ANALYSES[name]
        if draw := analysis.own("figure", None):
            draw(own, folder / f"{name}.png")
        else:
            figures.lines(own, folder / f"{name}.png", analysis.bounds)
        sections.append(f"## {name}\n\n{analysis.about}\n\n{markdown(table(name, own))}\n\n"
                        f"![{name}]({name}.png)\n")
    (folder / "table.md").write_text("\n".join(sections), "utf-8")
    part = folder / f"{FILE}.part"
    part.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), "utf-8")
    part.replace(folder / FILE)


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
