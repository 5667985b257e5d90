"""Lines over steps as inline SVG, in the page's colours.

A run that diverges is not to flatten the others: what is far beyond the calmest lines is off the scale, and named.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flaxbert.pages.html import Html, Part
from flaxbert.pages.tables import number

COLOURS = 8  # classes c0, c1, ... of the style sheet; after them the same again, dashed
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 290, 58, 14, 14, 42
POINTS = 12_000  # of all lines of a chart together
BEYOND = 20.0  # times the lower quarter of the calmest line: no longer on the scale
DOTS = 40  # most points of a line that are dots, too


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      name: what it is.
      points: (step, value) in order; a value that is None or not finite interrupts it.
      colour: number of its colour.
      style: "line"; "thin" for one seed of many; "faint" for what stands behind (training beside dev); "thick".
      lost: it ended because something was not finite.
    """

    name: str
    points: Sequence[tuple[int, float | None]]
    colour: int = 0
    style: str = "line"
    lost: bool = False

    @property
    def finite(self) -> list[float]:
        """Its values that are numbers."""
        return [value for _, value in self.points if _is_number(value)]


def chart(title: str, lines: Sequence[Line], unit: str = "step") -> Html | None:
    """A picture of these lines, with what stood off the scale below it; None where no line has a number.

    Args:
      title: what the values are.
      lines: the later ones stand before the earlier ones.
      unit: of the horizontal axis.
    """
    values = [value for line in lines for value in line.finite]
    if not values:
        return None
    low, high = limits([line.finite for line in lines])
    steps = [step for line in lines for step, _ in line.points]
    first, last = min(steps), max(max(steps), min(steps) + 1)
    ticks, along = nice(low, high), nice(first, last, whole=True)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        value = min(max(value, low), high)
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)
    most = max(20, POINTS // len(lines))
    marks = [_marks(line, x, y, most, (low, high)) for line in lines]
    svg = Html("svg", _axes(ticks, along, x, y, unit), marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
               aria_label=f"{title}: {_summary(lines, values)}")
    beyond = [f"{line.name or 'the line'} ({_extreme(line.finite, low, high)})" for line in lines
              if line.finite and (max(line.finite) > high or min(line.finite) < low) and line.style != "thick"]
    lost = [line.name or "the line" for line in lines if line.lost]
    return Html("figure", Html("h3", title), svg, Html("figcaption", [
        Html("p", "Off the scale: ", _few(beyond), ".") if beyond else None,
        Html("p", "Ends at a cross, where something was not finite: ", _few(lost), ".") if lost
        else None]), class_="chart")


def legend(entries: Iterable[tuple[str, int]], note: Part = None) -> Html:
    """Which colour is whose."""
    return Html("ul", [Html("li", Html("span", class_=f"swatch {css(colour)}"), name) for name, colour in entries],
                Html("li", note) if note else None, class_="legend")


def css(colour: int) -> str:
    """The classes of a colour by its number."""
    return f"c{colour % COLOURS}" + " dashed" * (colour // COLOURS % 2)


def limits(lines: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Lowest and highest value of the scale: of all that is not `BEYOND` the lower quarter of the calmest line."""
    calm = min(sorted(map(abs, values))[len(values) // 4] for values in lines if values)
    edge = BEYOND * max(calm, 0.5)
    kept = [value for values in lines for value in values if abs(value) <= edge]
    low, high = min(kept), max(kept)
    if high - low < 1e-9 * max(1, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return low, high


def nice(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers from about `low` to about `high`, four to eight of them; between them where they are whole."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (5, 2, 1) if m * power <= rough * 1.0001)
    if whole:
        step = max(1, round(step))
    first = math.ceil(low / step - 1e-9) if whole else math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9) if whole else math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def fewer(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most about so many points that look the same: of each stretch the first, the lowest and the highest."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(3 * len(points) / most)
    kept = []
    for at in range(0, len(points), size):
        part = points[at:at + size]
        kept += sorted({part[0], min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return [*kept, points[-1]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _axes(ticks: Sequence[float], along: Sequence[float], x: Any, y: Any, unit: str) -> list[Html]:
    """Lines and numbers of both."""
    return [*(Html("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid") for tick in ticks),
            *(Html("text", _tick(tick), x=LEFT - 8, y=y(tick) + 5, text_anchor="end") for tick in ticks),
            *(Html("text", f"{tick:,.0f}", x=x(tick), y=HEIGHT - BOTTOM + 20, text_anchor="middle")
              for tick in along),
            Html("text", unit, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, text_anchor="middle")]


def _tick(value: float) -> str:
    return f"{value:.3g}" if value and (abs(value) >= 1e5 or abs(value) < 1e-4) else f"{value:,.5g}"


def _marks(line: Line, x: Any, y: Any, most: int, scale: tuple[float, float]) -> list[Html]:
    """The strokes of a line, its dots, and a cross where it was lost."""
    strokes: list[list[tuple[int, float]]] = [[]]
    for step, value in line.points:
        if _is_number(value):
            strokes[-1].append((step, value))
        elif strokes[-1]:
            strokes.append([])
    made, title = [], Html("title", line.name)
    for stroke in filter(None, strokes):
        points = " ".join(f"{x(step):g},{y(value):g}" for step, value in fewer(stroke, most))
        made.append(Html("g", title, Html("polyline", points=points), class_=f"{line.style} {css(line.colour)}"))
    dots = [point for stroke in strokes for point in stroke]
    if (line.style == "line" and len(dots) <= DOTS) or len(dots) == 1:
        for step, value in dots:
            inside = scale[0] <= value <= scale[1]
            a, b, up = x(step), y(value), -7 if value > scale[1] else 7
            what = Html("title", f"{line.name}, {step}: {number(value)}".lstrip(", "))
            mark = Html("circle", cx=a, cy=b, r=3.5) if inside else \
                Html("path", d=f"M{a - 5} {b - up}h10l-5 {up}z")
            made.append(Html("g", what, mark, class_=f"dot {css(line.colour)}"))
    if line.lost and dots:
        a, b = x(dots[-1][0]), y(dots[-1][1])
        made.append(Html("path", d=f"M{a - 5} {b - 5}l10 10m0 -10l-10 10", class_=f"lost {css(line.colour)}"))
    return made


def _extreme(values: Sequence[float], low: float, high: float) -> str:
    found = [f"up to {number(max(values), 2)}"] * (max(values) > high) + \
        [f"down to {number(min(values), 2)}"] * (min(values) < low)
    return " and ".join(found)


def _few(texts: Iterable[str]) -> str:
    texts = list(dict.fromkeys(texts))
    return "; ".join(texts[:6]) + (f"; and {len(texts) - 6} more" if len(texts) > 6 else "")


def _summary(lines: Sequence[Line], values: Sequence[float]) -> str:
    return f"{len(lines)} line{'s' * (len(lines) != 1)}, from {number(min(values))} to {number(max(values))}"


def median(curves: Sequence[Mapping[int, float | None]]) -> list[tuple[int, float]]:
    """(step, median of the runs that have a number there), over all steps that a run has."""
    found = []
    for step in sorted({step for curve in curves for step in curve}):
        values = sorted(value for curve in curves if _is_number(value := curve.get(step)))
        if values:
            half = len(values) // 2
            found.append((step, values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2))
    return found
