"""Tables of a page, which scroll within themselves, and numbers in them."""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from flaxbert.pages.html import Html, Part, text_of

_NUMBER = re.compile(r"[-+±~≈<>]?\s*[\d.]")  # how a cell begins that holds a number
NONE = "–"  # where there is no number


def wide(header: Sequence[Part], rows: Iterable[Sequence[Part]], label: str = "", align: bool = True) -> Html:
    """A table that scrolls within itself.

    Args:
      header: of the columns.
      rows: cells; a row that is too short is filled.
      label: what it is a table of, for who does not see it.
      align: columns of numbers to the right.
    """
    body = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    numbers = [align and _numeric([row[column] for row in body]) for column in range(len(header))]
    classes = ["n" if number else None for number in numbers]
    head = Html("tr", [Html("th", cell, scope="col", class_=c) for cell, c in zip(header, classes, strict=True)])
    lines = [Html("tr", [Html("td", cell, class_=c) for cell, c in zip(row, classes, strict=False)])
             for row in body]
    dense = "denser" if len(header) > 13 else "dense" if len(header) > 9 else None  # on paper
    return Html("div", Html("table", Html("thead", head), Html("tbody", lines), class_=dense), class_="wide",
                tabindex=0, role="region", aria_label=f"Table: {label}" if label else "Table")


def _numeric(cells: Sequence[Part]) -> bool:
    texts = [text for cell in cells if (text := text_of(cell).strip())]
    return bool(texts) and sum(map(_is_number, texts)) >= 0.8 * len(texts)


def _is_number(text: str) -> bool:
    """Whether it is one, with a unit or a spread perhaps, and no sentence that begins with one."""
    words = sum(map(str.isalpha, text))
    return text == NONE or (bool(_NUMBER.match(text)) and words <= max(5, sum(map(str.isdigit, text))))


def facts(pairs: Iterable[tuple[Part, Part]], long: bool = False) -> Html:
    """Names and what they are, where that is not empty; `long`: one below the other."""
    return Html("dl", [Html("div", Html("dt", name), Html("dd", value)) for name, value in pairs
                       if text_of(value).strip()], class_="long" if long else None)


def number(value: Any, digits: int = 4) -> str:
    """A score or a loss, to `digits` decimals, in a short form where that would not do."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value and not 10.0 ** -digits <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.{digits}f}"


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean ± sample standard deviation (ddof = 1); of one value that value."""
    if not values:
        return NONE
    deviation = f" ± {number(statistics.stdev(values), digits)}" if len(values) > 1 else ""
    return f"{number(statistics.fmean(values), digits)}{deviation}"


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
