"""One split from rows: find the layout, pick the cells, turn labels into numbers."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert.errors import InputError
from flaxbert.tasks.base import Examples, Layout, Task
from flaxbert.tasks.labels import PARSERS, TYPES, is_empty, numbering
from flaxbert.tasks.rows import BadRow, BadRows, Report, Row, read_rows

# Inputs of `predict` need no header: one text a line, or two with a tab between; JSONL likewise.
PLAIN = {False: Layout((0,), widths=(1,)), True: Layout((0, 1), widths=(2,))}


@dataclass
class Records:
    """The cells of one split before labels become numbers.

    Attributes:
      bad: knows the file's name and counts its bad rows.
      places: where each row stands, for messages.
      texts: each row's one or two texts.
      labels: each row's label cell; None where blank.
      ids: each row's name in a submission.
      labelled: the file has a label column.
    """

    bad: BadRows
    labelled: bool
    places: list[str] = field(default_factory=list)
    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[object] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def add(self, place: str, texts: tuple[object, ...], label: object, row_id: object) -> None:
        """Takes one row in; a row without any text, or with something else in its place, is bad."""
        wrong = next((text for text in texts if not isinstance(text, str)), None)
        if wrong is not None or None in texts:
            self.bad.add(place, f"the text is {wrong!r}; it must be a string")
        elif not any(text.strip() for text in texts):
            self.bad.add(place, "the text is empty")
        else:
            self.places.append(place)
            self.texts.append(texts)
            self.labels.append(None if is_empty(label) else label)
            self.ids.append(str(row_id))


def matching(path: str | Path) -> list[Path]:
    """The files that are there of those that a path with `*` in it may mean, sorted; or the one that it names."""
    path = Path(path)
    if "*" not in str(path):
        return [path] if path.exists() else []
    folder = next(folder for folder in path.parents if "*" not in str(folder))
    return sorted(folder.glob(str(path.relative_to(folder))))


def _fits(layout: Layout, cells: list[str] | dict[str, object]) -> bool:
    """Whether the first row of a file belongs to this layout."""
    if layout.widths:
        return isinstance(cells, list) and len(cells) in layout.widths
    return all(column in cells for column in layout.texts)


def _problem(task: Task, layouts: tuple[Layout, ...], cells: list[str] | dict[str, object]) -> str:
    """What to say of a first row that no layout fits."""
    named = next((layout for layout in layouts if not layout.widths), layouts[0])
    missing = [column for column in named.texts if column not in cells]
    found = ", ".join(str(cell)[:30] for cell in cells)
    return (f"missing column {', '.join(map(str, missing))}; found: {found}; "
            f"{task.name} reads {' | or '.join(map(str, layouts))}")


def by_name(rows: Iterator[Row], header: list[str], bad: BadRows) -> Iterator[tuple[str, dict[str, object]]]:
    """Rows of a file with a header as dicts; a row with another number of columns is bad."""
    for place, cells in rows:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) != len(header):
            bad.add(place, f"{len(cells)} columns where the header has {len(header)}")
        else:
            yield place, dict(zip(header, cells, strict=True))


def _cell(cells: list[str] | dict[str, object], column: str | int) -> object:
    """One cell; raises BadRow where this row lacks it."""
    try:
        return cells[column]  # type: ignore[index, call-overload]
    except (KeyError, IndexError, TypeError):
        name = f"number {column + 1}" if isinstance(column, int) else column
        raise BadRow(f"missing column {name}; this row has {len(cells)} columns") from None


def read_records(task: Task, path: str | Path, skip_bad_rows: bool = False, labels_required: bool = False,
                 layouts: tuple[Layout, ...] = (), make: type[Records] = Records) -> Records:
    """The cells of one file.

    Args:
      task: tells the layouts (its labels are not looked at).
      path: TSV (.tsv, .txt), CSV or JSONL; "-" is standard input.
      skip_bad_rows: count rows that cannot be read in place of stopping.
      labels_required: a file without a label column is an error.
      layouts: in place of the task's own.
      make: the class of the records, which decides what a cell may hold.

    Raises:
      InputError: names file, line and what would be right.
    """
    layouts = layouts or task.layouts
    name = "standard input" if str(path) == "-" else str(path)
    bad = BadRows(name, skip_bad_rows)
    rows = read_rows(path, bad)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{name}: empty; {task.name} reads {' | or '.join(map(str, layouts))}")
    place, cells = first
    layout = next((layout for layout in layouts if _fits(layout, cells)), None)
    if layout is None:
        raise InputError(f"{name}, {place}: {_problem(task, layouts, cells)}")
    if isinstance(cells, dict) or layout.widths:
        rows = itertools.chain([first], rows)
    else:
        repeated = {column for column in cells if column and cells.count(column) > 1}
        if repeated & {*layout.texts, layout.label}:
            raise InputError(f"{name}, {place}: column {', '.join(sorted(repeated))} occurs twice in the header")
        rows = by_name(rows, cells, bad)
    label = layout.label if layout.widths or layout.label in cells else None
    if label is None and labels_required:
        raise InputError(f"{name}, {place}: missing column {layout.label}; found: {', '.join(map(str, cells))}")
    records = make(bad, labelled=label is not None)
    for number, (place, row) in enumerate(rows):
        try:
            if layout.widths and len(row) not in layout.widths:
                raise BadRow(f"{len(row)} columns; {task.name} without a header has "
                             f"{' or '.join(map(str, layout.widths))}")
            texts = tuple(_cell(row, column) for column in layout.texts)
            value = None if label is None else _cell(row, label)
            row_id = row[layout.ids] if layout.ids in row and isinstance(row, dict) else number
        except BadRow as error:
            bad.add(place, error)
            continue
        records.add(place, texts, value, row_id)
    return records


def to_examples(task: Task, records: Records, labels_required: bool) -> tuple[Examples, Report]:
    """Turns labels into numbers.

    Args:
      task: with its label names.
      records: from `read_records` or the hub.
      labels_required: a blank label is a bad row. Otherwise a split whose labels are all blank has none.

    Returns:
      the examples (labels [N], or [N, C] for multi-label) and what was skipped.

    Raises:
      InputError: a bad label, or no usable row.
    """
    parse, numbers = PARSERS[task.kind], numbering(task)
    blanks_mean_none = task.kind == "multi_label"  # a blank cell there says: none of the labels
    given = records.labelled and (labels_required or blanks_mean_none
                                  or any(label is not None for label in records.labels))
    kept, labels = [], []
    for row, (place, value) in enumerate(zip(records.places, records.labels, strict=True)):
        try:
            if given:
                if value is None and not blanks_mean_none:
                    raise BadRow("no label")
                labels.append(parse(value, numbers))
        except BadRow as error:
            records.bad.add(place, error)
            continue
        kept.append(row)
    if not kept:
        raise InputError(f"{records.bad.name}: no rows" + (" that can be read" if records.bad.count else ""))
    return (Examples([records.texts[row][0] for row in kept],
                     [records.texts[row][1] for row in kept] if task.pair else None,
                     np.asarray(labels, TYPES[task.kind]) if given else None,
                     [records.ids[row] for row in kept]),
            records.bad.report())


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[Examples, Report]:
    """Texts to predict for: a file as the task's own, or with texts only; labels are not looked at.

    Args:
      task: tells the columns.
      path: a file, or "-" for standard input. Without a header: one text a line, pairs with a tab
        between. JSONL: objects, strings, or lists of two strings.
      skip_bad_rows: count rows that cannot be read in place of stopping.
    """
    unlabelled = tuple(dataclasses.replace(layout, label=None) for layout in task.layouts)
    records = read_records(task, path, skip_bad_rows, layouts=(*unlabelled, PLAIN[task.pair]))
    return to_examples(task, records, labels_required=False)


def from_hub(task: Task, split: Any, where: str, skip_bad_rows: bool, make: type[Records] = Records) -> Records:
    """Records of a split of a hub dataset (`datasets.Dataset`); rows are counted from 0."""
    hub = task.hub
    labels = (_hub_labels(task, list(split[hub.label]), split.features[hub.label])
              if hub.label in split.column_names else None)
    records = make(BadRows(where, skip_bad_rows), labelled=labels is not None)
    texts = list(zip(*(list(split[column]) for column in hub.texts), strict=True))
    ids = list(split[hub.ids]) if hub.ids in split.column_names else range(len(texts))
    for number, (row, label, row_id) in enumerate(zip(texts, labels or [None] * len(texts), ids, strict=True)):
        records.add(f"row {number}", row, label, row_id)
    return records


def _hub_labels(task: Task, column: list[object], feature: object) -> list[object]:
    """The hub's label cells as our files would write them; what stands for "no label" becomes None.

    Class numbers go by the dataset's own names where these are the task's (in any case), else by position.
    """
    if task.kind == "regression":  # GLUE writes -1 where the test scores are held back
        return [None if task.bounds and value == -1 else value for value in column]
    if task.kind == "multi_label":
        return column
    names = list(getattr(feature, "names", []))
    ours = {name.lower(): name for name in task.labels}
    if names and not task.labels:  # custom: the dataset names its classes
        return [None if value in (-1, None) else names[value] for value in column]
    if names and {name.lower() for name in names} <= set(ours):
        return [None if value in (-1, None) else ours[names[value].lower()] for value in column]
    if column and task.labels and all(isinstance(value, int) for value in column):
        return [None if value == -1 else (task.labels[value] if 0 <= value < len(task.labels) else value)
                for value in column]
    return column
