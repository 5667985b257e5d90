"""What a folder holds that a page can be made of: runs, the record of a study, an analysis.

A run may still be at work: its log then ends before the run does. What a person may have torn is refused.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flaxbert import records
from flaxbert.errors import InputError
from flaxbert.pages import files
from flaxbert.pages.arms import Arm, Run, name_of

NO_ERRORS: Mapping[str, str] = MappingProxyType({})


class _NotBegun(InputError):
    """A run without a measurement: alone there is nothing to tell of it, among others that it has none."""


@dataclass(frozen=True)
class Runs:
    """Arms in one folder.

    Attributes:
      kind: run, seeds, sweep or folder.
      lacking: names of cells of a sweep, or of runs in a folder, that have no measurement -> why, "" where it is
        not told.
    """

    kind: str
    folder: Path
    arms: tuple[Arm, ...]
    lacking: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The record of a study, with summary.json, its table, and the README of the study; "" where there is none."""

    folder: Path
    summary: dict[str, Any]
    table: str
    readme: str


@dataclass(frozen=True)
class Analysis:
    """What `flaxbert analyze` wrote, with analysis.json and its table."""

    folder: Path
    about: dict[str, Any]
    table: str


Source = Runs | Record | Analysis


def read(path: str | Path, readme: Path | None = None) -> Source:
    """What a folder holds.

    Args:
      path: of the folder.
      readme: of the study whose record it is; default: the one two folders up, where a study keeps its records.

    Raises:
      InputError: nothing that we know, or something torn.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(f"{path}: {'is a file' if folder.exists() else 'no such folder'}; give the folder of a "
                         "run, of seeds, a sweep, an analysis or the record of a study")
    reader = next((reader for file, reader in READERS.items() if (folder / file).exists()), _folder)
    return reader(folder, readme) if reader is _record else reader(folder)


# --- runs

def _run_or_seeds(folder: Path) -> Runs:
    about = _config(folder)
    if about["settings"].get("seeds"):
        return Runs("seeds", folder, (_seeds(folder, about),))
    return Runs("run", folder, (_alone(_run(folder, about)),))


def _config(folder: Path) -> dict[str, Any]:
    about = files.content(folder / "config.json")
    if not isinstance(about.get("settings"), dict):
        raise InputError(f"{folder}: not one of our runs (its config.json has no settings); give the folder that "
                         "finetune wrote")
    lacking = [name for name in ("seed", "seeds") if name not in about["settings"]]
    task = about.get("task")
    if lacking or not isinstance(task, dict) or not task.get("name") or not task.get("metrics"):
        raise InputError(f"{folder / 'config.json'}: not a run's settings (no {(*lacking, 'task')[0]})")
    return about


def _run(folder: Path, about: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Run:
    """A run that has logged something, or has come to its end."""
    file, seed = folder / "result.json", about["settings"]["seed"]
    result = files.content(file, "status", "metrics", "best") if file.exists() else None
    if rows is None:  # the log of a run of many seeds is in the folder of all of them
        own = (folder / "metrics.jsonl").exists() or not records.is_run(folder.parent)
        logs = folder if own else folder.parent
        rows = [row for row in files.lines(logs / "metrics.jsonl", "step", "split", "seed") if row["seed"] == seed]
    if not rows and not result:
        raise _NotBegun(f"{folder / 'metrics.jsonl'}: no measurement yet; wait for the first step, or go on "
                         "with the run by --resume")
    return Run(folder, name_of(folder), about, result, rows)


def _alone(run: Run) -> Arm:
    return Arm(run.name, run.folder, (run,))


def _seeds(folder: Path, about: dict[str, Any]) -> Arm:
    rows = files.lines(folder / "metrics.jsonl", "step", "split", "seed")
    wanted, runs = about["settings"]["seeds"], []
    for seed in wanted:
        own = records.of_seed(folder, seed)
        mine = [row for row in rows if row["seed"] == seed]
        if (own / "config.json").exists() and (mine or (own / "result.json").exists()):
            runs.append(_run(own, _config(own), mine))
    if not runs:
        raise _NotBegun(f"{folder / 'metrics.jsonl'}: no measurement yet; wait for the first step, or go on "
                         "with the runs by --resume")
    file, begun = folder / "result.json", {run.seed for run in runs}
    return Arm(name_of(folder), folder, tuple(runs), tuple(seed for seed in wanted if seed not in begun),
               files.content(file, "status") if file.exists() else None)


def _sweep(folder: Path) -> Runs:
    about, file = files.content(folder / "sweep.json", "cells", "seeds"), folder / "summary.json"
    errors = files.content(file).get("errors", {}) if file.exists() else {}
    found = _together("sweep", folder, about["cells"], errors)
    if not found.arms:
        raise InputError(f"{folder / 'results.jsonl'}: no cell of the sweep has a measurement yet; the same "
                         "command goes on")
    return found


def _together(kind: str, folder: Path, names: Iterable[str], errors: Mapping[str, str] = NO_ERRORS) -> Runs:
    """The runs of these names in a folder; those that have measured nothing are told, and harm no others."""
    arms, lacking = [], {}
    for name in names:
        try:
            if not (folder / name / "config.json").exists():
                raise _NotBegun
            arms += _run_or_seeds(folder / name).arms
        except _NotBegun:
            lacking[name] = errors.get(name, "")
    return Runs(kind, folder, tuple(arms), lacking)


def _folder(folder: Path) -> Runs:
    """A folder with runs in it, such as a demo's."""
    names = sorted(each.name for each in folder.iterdir() if records.is_run(each))
    if names:
        found = _together("folder", folder, names)
        if not found.arms:
            raise _NotBegun(f"{folder}: no measurement yet of {', '.join(names)}; wait for the first step, or go "
                            "on with them by --resume")
        return found
    newest = max(folder.glob("records/*/summary.json"), default=None)
    if newest:
        raise InputError(f"{folder}: a study; give one of its records, such as {newest.parent}")
    raise InputError(f"{folder}: no run, folder of seeds, sweep, analysis or record of a study (no config.json, "
                     "sweep.json, analysis.json or summary.json)")


# --- records

def _record(folder: Path, readme: Path | None = None) -> Record:
    summary = files.content(folder / "summary.json", "study", "question")
    study = folder.absolute().parents[1] if len(folder.absolute().parts) > 3 else folder
    readme = readme or (study / "README.md" if study.name == summary["study"] else None)
    return Record(folder, summary, files.text(folder / "table.md"),
                  files.text(readme) if readme and readme.exists() else "")


def _analysis(folder: Path) -> Analysis:
    return Analysis(folder, files.content(folder / "analysis.json"), files.text(folder / "table.md"))


# The file that tells what a folder is -> who reads it, the first that is there.
READERS: dict[str, Callable[..., Source]] = {
    "sweep.json": _sweep, "summary.json": _record, "analysis.json": _analysis, "config.json": _run_or_seeds}
