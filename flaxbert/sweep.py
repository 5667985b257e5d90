"""Sweeps: a grid of settings x seeds, as one record that goes on where it was.

In its folder: sweep.json says what the sweep is, results.jsonl has a row for each run, and a folder for each cell,
such as learning_rate=5e-05,bias_correction=false, has the runs of its seeds as `finetune --seeds` writes them. At
the end table.md, summary.json and figure.png say what came of it. sweep.lock is held by who is at work there.

A row is written after the result.json of its run, from which it can be made again; so a kill loses none.
"""

import dataclasses
import itertools
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flaxbert import disk_cache, optimizers, parallel, records, strategies, tasks, train
from flaxbert.config import Config
from flaxbert.errors import InputError, note, one_of
from flaxbert.progress import bar
from flaxbert.seeds import VARIED
from flaxbert.statistics import figures
from flaxbert.statistics.distribution import summary
from flaxbert.statistics.runs import Runs

FORMAT = 1  # of sweep.json and of the rows
LONGEST_NAME = 200  # of a cell's folder; file systems allow 255 bytes

_FIELDS = {f.name: f.type for f in dataclasses.fields(Config)}
# Settings that no grid may be over, and why.
_NOT_SWEPT = {
    **dict.fromkeys(("seed", "seeds"), "give --seeds=1:5, or 1,2,5"),
    **dict.fromkeys(("output_dir", "resume", "overwrite"), "each cell has a folder of its own in --output_dir"),
    **dict.fromkeys(("distributed", "coordinator_address", "num_processes", "process_id", "compilation_cache"),
                    "one process has one; give it as a flag"),
}
# Type of a setting -> its value as text -> the value; ValueError or KeyError where it is none.
_READERS = {bool: lambda text: {"true": True, "false": False}[text.lower()], int: int, float: float,
            float | None: lambda text: None if text == "none" else float(text),
            tuple[str, ...]: lambda text: tuple(text.split(",")),
            tuple[float, ...]: lambda text: tuple(map(float, text.split(",")))}


class Point(NamedTuple):
    """One cell of a grid.

    Attributes:
      name: of its folder.
      values: setting -> value, of the settings that the grid is over.
      config: all its settings, with `seeds`.
    """

    name: str
    values: dict[str, Any]
    config: Config


def sweep(grid: Mapping[str, Sequence[Any]], **given: Any) -> dict[str, Any]:
    """Trains what a sweep lacks yet: each cell of the grid with each seed. Then it sums up all of it.

    Cells whose settings differ in `seeds.VARIED` alone share their programs. A cell that cannot be trained is told
    and does not keep the others from it, unless there is no result at all yet.

    Args:
      grid: setting -> values.
      given: the other settings, as of `Config.make`; `output_dir` may hold the same sweep, with fewer values or
        seeds.

    Returns:
      {"run": folder, "status": finished, interrupted or incomplete, "done" and "runs": how many are there and how
      many there should be, "errors": cell -> why it could not be trained}; unless interrupted also "cells" and
      "best", as in summary.json, and "table", Markdown.

    Raises:
      InputError: anything wrong with the grid, the settings or the folder.
    """
    points = points_of(grid, given)
    config, seeds = points[0].config, points[0].config.seeds
    parallel.start(config)
    folder = train.output_dir(config, f"{config.task}-sweep")
    with ExitStack() as held:
        parallel.agree(partial(_claim, folder, points, held))
        rows = Rows(folder, parallel.is_main())
        for point, seed in itertools.product(points, seeds):
            rows.add(point, records.read_result(records.of_seed(folder / point.name, seed)))
        done, total = rows.done(points), len(points) * len(seeds)
        if parallel.is_main():
            note(f"{folder}: {len(points)} cells x {len(seeds)} seeds, {done} of {total} runs are there")
        with bar(total, "sweep", "runs", not parallel.is_main(), done, position=1) as progress:
            status, errors = _train(folder, points, rows, progress)
        found = {"run": str(folder), "status": status, "done": rows.done(points), "runs": total, "errors": errors}
        return found if status == "interrupted" else {**found, **_conclude(folder, points, rows, found)}


# --- the grid

def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """What --grid says: NAME=VALUE,VALUE,... each. Values that hold commas themselves are separated by semicolons.

    A value that is none of its setting's type is left as text; `Config.make` says what would be right.

    Raises:
      InputError: another form, no such setting, one twice, or an empty value.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--grid={text}: write --grid=NAME=VALUE,VALUE,...")
        one_of(name, _FIELDS, "--grid")
        if name in grid:
            raise InputError(f"--grid={name}: more than once; write all its values in one")
        parts = values.split(";" if ";" in values else ",")
        if not all(parts):
            raise InputError(f"--grid={text}: {'a value is empty' if values else 'no values'}")
        grid[name] = [_typed(_FIELDS[name], part) for part in parts]
    return grid


def _typed(kind: Any, text: str) -> Any:
    try:
        return _READERS.get(kind, str)(text)
    except (ValueError, KeyError):
        return text


def points_of(grid: Mapping[str, Sequence[Any]], given: Mapping[str, Any]) -> list[Point]:
    """The cells of a grid, those of its first setting's first value first; arguments and errors as of `sweep`.

    All that can be checked without data and weights is: nobody wants to hear of it after half of the runs.
    """
    if not grid:
        raise InputError("--grid: no setting to sweep; write --grid=NAME=VALUE,VALUE,...")
    for name, values in grid.items():
        one_of(name, _FIELDS, "--grid")
        if name in _NOT_SWEPT:
            raise InputError(f"--grid={name}: not over this one; {_NOT_SWEPT[name]}")
        if name in given:
            raise InputError(f"--grid={name}: not together with --{name}")
        if not len(values):
            raise InputError(f"--grid={name}: no values")
    points = []
    for values in itertools.product(*grid.values()):
        config = Config.make(**given, **dict(zip(grid, values, strict=True)))
        own = {name: getattr(config, name) for name in grid}
        if tasks.resolve(config).kind == "pretraining":
            raise InputError(f"--task={config.task}: a sweep fine-tunes; for one pre-training run after the other "
                             "there is `flaxbert pretrain`")
        one_of(config.strategy, tuple(strategies.STRATEGIES), "--strategy")
        optimizers.check(config)
        config = tasks.settled(config.absolute())
        config = dataclasses.replace(config, seeds=config.seeds or (config.seed,), seed=Config.seed)
        points.append(Point(_name(own), own, config))
    for name, count in Counter(point.name for point in points).items():
        if count > 1:
            raise InputError(f"--grid: {name} more than once")
    return points


def _text(value: Any) -> str:
    """A setting's value as a flag has it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def _name(values: Mapping[str, Any]) -> str:
    """What a cell's folder is called; with a checksum where the values alone are no good name."""
    name = ",".join(f"{setting}={_text(value)}" for setting, value in values.items())
    plain = re.sub(r"[^\w.,=+-]", "-", name)[:LONGEST_NAME]
    return name if plain == name else f"{plain}-{zlib.crc32(name.encode()):08x}"


def groups_of(points: Sequence[Point]) -> list[list[Point]]:
    """Those that the same programs train."""
    found: dict[Config, list[Point]] = {}
    for point in points:
        found.setdefault(dataclasses.replace(point.config, **dict.fromkeys(VARIED)), []).append(point)
    return list(found.values())


# --- the folder

def _claim(folder: Path, points: Sequence[Point], held: ExitStack) -> str:
    """Takes the folder for this sweep until `held` lets go of it, and writes sweep.json.

    Raises:
      InputError: somebody else is at work there, or it holds something else, another sweep, or one of another
        version.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = held.enter_context(disk_cache.lock(folder, "sweep", wait=False))
    except OSError as error:
        raise InputError(f"--output_dir={folder}: cannot be written ({error.strerror or error})") from error
    if not free:
        raise InputError(f"--output_dir={folder}: another sweep is at work there; wait, or choose another folder")
    file, now = folder / "sweep.json", _describe(points)
    if file.exists():
        changes = _changes(file, now)
        if changes:
            raise InputError(f"--output_dir={folder}: holds another sweep ({'; '.join(changes)}); give the same "
                             "flags, with more values or seeds if you like, or choose another folder")
    elif any(not each.name.startswith("sweep.") for each in folder.iterdir()):
        raise InputError(f"--output_dir={folder}: not empty and not a sweep; choose another folder")
    records.write_json(file, now)
    return ""


def _describe(points: Sequence[Point]) -> dict[str, Any]:
    """The content of sweep.json: the grid, the settings that all cells share, and each cell's own."""
    every = {point.name: point.config.to_json() for point in points}
    first = next(iter(every.values()))
    shared = {name: value for name, value in first.items() if all(each[name] == value for each in every.values())}
    grid = {name: list(dict.fromkeys(point.values[name] for point in points)) for name in points[0].values}
    return {"format": FORMAT, "grid": json.loads(json.dumps(grid)), "seeds": [*points[0].config.seeds],
            "settings": shared, "versions": records.versions(),
            "cells": {cell: {name: value for name, value in settings.items() if name not in shared}
                      for cell, settings in every.items()}}


def _changes(file: Path, now: Mapping[str, Any]) -> list[str]:
    """What keeps the sweep of a sweep.json from being a part of the one that is wanted now."""
    try:
        before = json.loads(file.read_text())
        _check_format(before, file)
        if [*before["grid"]] != [*now["grid"]]:
            return [f"--grid over {', '.join(before['grid'])} -> {', '.join(now['grid'])}"]
        lists = {**{f"--grid={name}": (old, now["grid"][name]) for name, old in before["grid"].items()},
                 "--seeds": (before["seeds"], now["seeds"])}
        lacking = {flag: [value for value in old if value not in new] for flag, (old, new) in lists.items()}
        if any(lacking.values()):
            return [f"{flag} lacks {', '.join(map(_text, values))}" for flag, values in lacking.items() if values]
        for cell in before["cells"]:
            old, new = (Config.from_json({**about["settings"], **about["cells"][cell]}) for about in (before, now))
            if changes := dataclasses.replace(old, seeds=new.seeds).differences(new):
                return changes
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read ({type(error).__name__}: {error})") from error
    return []


def _check_format(record: Mapping[str, Any], where: str | Path) -> None:
    if record["format"] != FORMAT:
        raise InputError(f"{where}: of format {record['format']}, and this version of flaxbert reads and writes "
                         f"{FORMAT}; choose another --output_dir")


_COPIED = ("seed", "status", "failure", "task", "main_metric", "majority_baseline", "best_step", "seconds",
           "together")  # of result.json


class Rows:
    """results.jsonl: a row for each run, once, in the order in which they were done.

    Args:
      folder: of the sweep.
      write: False in all processes of a pod but one, which keeps the rows to itself.

    Raises:
      InputError: a row that is none, or one of another version.
    """

    def __init__(self, folder: Path, write: bool):
        self._file, self._write = folder / "results.jsonl", write
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                _check_format(row, f"{self._file}, line {number}")
                self._rows[row["cell"], row["seed"]] = row
            except (json.JSONDecodeError, TypeError, KeyError):
                if number < len(lines):  # else it was torn by a kill
                    raise InputError(f"{self._file}, line {number}: no row of a sweep; delete the line") from None
        if write:
            part = self._file.with_suffix(".part")
            part.write_text("".join(json.dumps(row) + "\n" for row in self._rows.values()))
            part.replace(self._file)

    def add(self, point: Point, result: Mapping[str, Any] | None) -> bool:
        """Writes the row of a run that has come to its end, unless it is there; whether it was written."""
        if not result or result["status"] not in ("finished", "failed") \
                or (point.name, result["seed"]) in self._rows:
            return False
        copied = {name: result[name] for name in _COPIED if name in result}
        versions = records.versions()
        row = {"format": FORMAT, "cell": point.name, "grid": point.values, **copied,
               "dev": result["metrics"].get("dev") if result["status"] == "finished" else None,
               "best_dev": result["best"].get("dev"),
               "versions": {name: versions[name] for name in ("flaxbert", "jax")}}
        self._rows[point.name, result["seed"]] = row
        if self._write:
            with self._file.open("a") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        return True

    def of(self, point: Point) -> list[dict[str, Any]]:
        """The rows of a cell."""
        return [self._rows[point.name, seed] for seed in point.config.seeds if (point.name, seed) in self._rows]

    def runs(self, point: Point) -> Runs | None:
        """The scores of a cell on dev after the last step; None where it has no row."""
        rows = self.of(point)
        if not rows:
            return None
        metric, scores = rows[0]["main_metric"], {}
        for row in rows:
            score = (row["dev"] or {}).get(metric)
            scores[row["seed"]] = math.nan if score is None else score
        return Runs("\n".join(map(_text, point.values.values())), rows[0]["task"], metric, scores,
                    rows[0]["majority_baseline"])

    def done(self, points: Sequence[Point]) -> int:
        """How many runs of these cells have a row."""
        return sum(len(self.of(point)) for point in points)


# --- at work

def _train(folder: Path, points: Sequence[Point], rows: Rows, progress: Any) -> tuple[str, dict[str, str]]:
    """Trains what is not there yet.

    Returns:
      status: finished, interrupted, or incomplete, where cells could not be trained; and cell -> why not.

    Raises:
      InputError: the first ones could not, and there is no result at all.
    """
    errors: dict[str, str] = {}
    named = {folder / point.name: point for point in points}

    def told(cell: train.Cell, result: dict[str, Any]) -> None:
        if rows.add(named[cell.folder], result):
            progress.set_postfix_str(f"{cell.folder.name} seed {result['seed']}", refresh=False)
            progress.update()
    for group in groups_of(points):
        cells = [train.Cell(folder / point.name, dataclasses.replace(point.config, resume=True,
                                                                     output_dir=str(folder / point.name)))
                 for point in group]
        cells = [cell for cell in cells if not records.is_finished(cell.folder, cell.config)]
        if not cells:
            continue
        parallel.start(cells[0].config)
        try:
            results = train.train_cells(cells, told)
        except InputError as error:
            if not rows.done(points):
                if parallel.is_main() and not any(each.is_dir() for each in folder.iterdir()):
                    records.clear(folder)
                    folder.rmdir()
                raise
            names = [cell.folder.name for cell in cells]
            note(f"{', '.join(names)}: {error}")
            errors |= dict.fromkeys(names, str(error))
            continue
        if any(result["status"] == "interrupted" for result in results):
            return "interrupted", errors
    return "incomplete" if errors else "finished", errors


# --- what came of it

def _conclude(folder: Path, points: Sequence[Point], rows: Rows, about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes summary.json, table.md and figure.png."""
    found = [(point, runs) for point in points if (runs := rows.runs(point))]
    cells = [{"cell": point.name, "grid": point.values, "task": runs.task, "main_metric": runs.metric,
              "majority_baseline": runs.baseline, **summary(runs.values(), runs.failed)} for point, runs in found]
    arms = [runs for _, runs in found]
    best = _best(cells, arms)
    table = _table(cells, best, about["errors"])
    if parallel.is_main():
        seconds = sum(row["seconds"] / row["together"] for point in points for row in rows.of(point))
        records.write_json(folder / "summary.json", {
            "format": FORMAT, **{name: value for name, value in about.items() if name != "run"},
            "seconds": round(seconds, 3), "best": best, "cells": cells, "versions": records.versions()})
        (folder / "table.md").write_text(table + "\n")
        figures.boxes(arms, folder / "figure.png", ", ".join(points[0].values))
    parallel.barrier("end of the sweep")
    return {"cells": cells, "best": best, "table": table}


def _best(cells: Sequence[Mapping[str, Any]], arms: Sequence[Runs]) -> list[str]:
    """The cell with the best mean, of those of each task."""
    means: dict[tuple[str, str], dict[str, float]] = {}
    for cell, arm in zip(cells, arms, strict=True):
        means.setdefault((arm.task, arm.metric), {})[cell["cell"]] = arm.sign * cell["mean"]
    return [max(each, key=each.get) for each in means.values()]


def _table(cells: Sequence[Mapping[str, Any]], best: Sequence[str], errors: Mapping[str, str]) -> str:
    """A row a cell, in Markdown that a terminal shows well too, below what the numbers are."""
    lines = []
    for task, metric, baseline in dict.fromkeys((c["task"], c["main_metric"], c["majority_baseline"])
                                                for c in cells):
        lines.append(f"{task}, dev {metric} after the last step; failed: no better than the best constant answer, "
                     f"{baseline:.4f}")
    rows = [(*cells[0]["grid"], "mean ± std", "median", "min", "max", "failed", "n", "")]
    for cell in cells:
        spread = "" if cell["std"] is None else f" ± {cell['std']:.4f}"
        rows.append((*map(_text, cell["grid"].values()), f"{cell['mean']:.4f}{spread}",
                     *(f"{cell[name]:.4f}" for name in ("median", "min", "max")), str(cell["failed"]),
                     str(cell["n"]), "best" if cell["cell"] in best else ""))
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    lines += ["", *(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)]
    if errors:
        lines += ["", *(f"not trained: {cell}: {error}" for cell, error in errors.items())]
    return "\n".join(lines)
