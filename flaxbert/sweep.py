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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from flaxbert import disk_cache, parallel, records, train
from flaxbert.errors import InputError, note
from flaxbert.grid import Point, groups_of, points_of, text
from flaxbert.progress import bar
from flaxbert.statistics import figures
from flaxbert.statistics.distribution import summary
from flaxbert.statistics.runs import Runs

FORMAT = 1  # of sweep.json and of the rows


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
            return [f"{flag} lacks {', '.join(map(text, values))}" for flag, values in lacking.items() if values]
        for cell in before["cells"]:
            old, new = (records.settings_of(about, file, {**about["settings"], **about["cells"][cell]})
                        for about in (before, now))
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
        return Runs("\n".join(map(text, point.values.values())), rows[0]["task"], metric, scores,
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
    most = sum(len(point.config.seeds) for point in points)
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
            results, stopped = train.train_cells(cells, told)
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
        # In the last step of a group all of its runs are there, and yet no other is to begin.
        if any(result["status"] == "interrupted" for result in results) or (stopped and rows.done(points) < most):
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
        rows.append((*map(text, cell["grid"].values()), f"{cell['mean']:.4f}{spread}",
                     *(f"{cell[name]:.4f}" for name in ("median", "min", "max")), str(cell["failed"]),
                     str(cell["n"]), "best" if cell["cell"] in best else ""))
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    lines += ["", *(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)]
    if errors:
        lines += ["", *(f"not trained: {cell}: {error}" for cell, error in errors.items())]
    return "\n".join(lines)
