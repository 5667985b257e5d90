"""Training: step, evaluate, log, save; interrupted anywhere, a run goes on bitwise where it was."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flaxbert import failures, parallel, pretrained, records, seeds, tasks
from flaxbert.config import Config
from flaxbert.errors import InputError, RunFailed, note
from flaxbert.export import head_settings, save_model_folder
from flaxbert.loop import Loop
from flaxbert.prepare import Ready, prepare
from flaxbert.seeds import Group
from flaxbert.statistics import distribution, figures
from flaxbert.statistics.baseline import majority_baseline
from flaxbert.statistics.runs import Runs
from flaxbert.tasks.base import Task


class Cell(NamedTuple):
    """Runs that differ in their seeds alone, or a single one.

    Attributes:
      folder: of the one run, or of those of all seeds.
      config: with `seeds`, or without.
    """

    folder: Path
    config: Config

    def places(self) -> list[tuple[Config, Path]]:
        """Settings and folder of each run."""
        config = self.config
        return [(config.of_seed(seed), records.of_seed(self.folder, seed)) for seed in config.seeds] \
            or [(config, self.folder)]


def finetune(config: Config) -> dict[str, Any]:
    """Trains one run, or one for each of its seeds, to result.json; the result is returned with the folder.

    Args:
      config: the settings.

    Returns:
      The content of result.json, and `run`, the path of the folder.

    Raises:
      InputError: anything wrong with flags, files, weights or the folder; or no memory for a batch.
      RunFailed: the loss was not finite; the last good checkpoint stays. Of several runs one that fails harms no
        other, and nothing is raised.
    """
    if config.seeds_per_program != "auto" and not config.seeds:
        raise InputError(f"--seeds_per_program={config.seeds_per_program}: only with --seeds")
    config = tasks.settled(config.absolute())
    parallel.start(config)
    folder = output_dir(config, f"{config.task}-{config.strategy}-{'seeds' if config.seeds else config.seed}")
    [result], _ = train_cells([Cell(folder, config)])
    if result["status"] == "failed":
        raise RunFailed(f"{result['failure']}; the last good checkpoint is in {folder}/checkpoints; try a smaller "
                        "--learning_rate")
    return {**result, "run": str(folder)}


def train_cells(cells: Sequence[Cell], told: Callable[[Cell, dict[str, Any]], None] = lambda *_: None
                ) -> tuple[list[dict[str, Any]], bool]:
    """Trains all runs of these cells with the same programs.

    Args:
      cells: their settings differ in `seeds.VARIED` and in seeds alone; as `tasks.settled` leaves them.
      told: called with each run's result.json as soon as it is there; not for those of an earlier call.

    Returns:
      the result.json of each cell, and whether it was asked to stop, be it in the very last step.

    Raises:
      InputError: as of `finetune`.
    """
    found = {cell.folder: parallel.agree(partial(records.claim, cell.folder, cell.config)) for cell in cells}
    todo = [cell for cell in cells if found[cell.folder] != "finished"]
    for cell in cells:
        if cell not in todo:
            note(f"{cell.folder}: already finished; nothing to do")
    stopped = _train(todo, found, told) if todo else False
    return [records.read_result(cell.folder) or {"status": "interrupted"} for cell in cells], stopped


def _advice(config: Config, together: int) -> str:
    """What to do where so many runs at a time do not fit the device's memory."""
    fewer = f"a --seeds_per_program below {together}, " if together > 1 else ""
    return (f"--batch_size={config.batch_size} and --max_length={config.max_length}"
            f"{f', {together} seeds at a time' if together > 1 else ''}: try {fewer}a larger --micro_batches, "
            "--remat, --dtype=bfloat16, or smaller values")


def _train(cells: Sequence[Cell], found: Mapping[Path, str], told: Callable[[Cell, dict[str, Any]], None]) -> bool:
    """Trains cells that are not finished; `found`: what `records.claim` said. Whether it was asked to stop."""
    config = cells[0].config
    started = next((cell for cell in cells if found[cell.folder] == "started"), None)
    begun = records.read_run(started.folder)[1] if started else {}
    places = [Place(own, folder, cell) for cell in cells for own, folder in cell.places()]
    failure: Exception | None = None
    try:
        placement = parallel.make(config)
        ready = prepare(config, placement.shards, begun)
        if config.seeds or len(cells) > 1:
            with parallel.memory_told(_advice(config, 1)):
                # Of all runs, done or not: so that each has the batches and the neighbours that it began with.
                groups = seeds.groups(ready, [place.config for place in places], config.seeds_per_program,
                                      begun.get("together", 0))
        else:
            groups = [Group([ready], placement)]
    except Exception as error:  # the other processes of a pod wait for an answer whatever happens
        failure = error
    if not parallel.everywhere(failure is None):
        for folder in found:
            if found[folder] == "new" and parallel.is_main():
                folder.rmdir()
        raise failure or InputError("another process of the pod could not begin; it tells why")
    # What a run began with it goes on with: one that has saved its encoder goes on saving it.
    backbone = (begun.get("backbone") if begun
                else pretrained.backbone(ready.pretrained, ready.trains, ready.task.kind))
    baseline = majority_baseline(ready.task, ready.splits["dev"])
    parallel.agree(lambda: _write_cells(cells, found, ready, groups[0], backbone))
    left, open_cells, stopped = list(places), [cell for cell in cells if cell.config.seeds], False
    for group in groups:
        here, left = left[:len(group.runs)], left[len(group.runs):]
        numbers = [n for n, place in enumerate(here) if not (place.cell.config.seeds and _done(place.folder))]
        if numbers:
            group, here = group.only(numbers), [here[n] for n in numbers]
            parallel.agree(partial(_write_runs, here, group, backbone))
            with parallel.memory_told(_advice(config, group.size)):
                loop = Loop(group, [(place.folder, place.cell.folder) for place in here], backbone, baseline)
                results = loop.go()
            for place, result in zip(here, results, strict=True):
                told(place.cell, result)
            stopped = not parallel.everywhere(not loop.interrupted)
            if stopped:
                break
        for cell in [cell for cell in open_cells if all(_done(folder) for _, folder in cell.places())]:
            open_cells.remove(cell)
            parallel.agree(partial(_finish, cell, ready.task))
    for cell in open_cells:
        parallel.agree(partial(_finish, cell, ready.task))
    return stopped


class Place(NamedTuple):
    """A run of a cell: its settings and its folder."""

    config: Config
    folder: Path
    cell: Cell


def _done(folder: Path) -> bool:
    """Whether nothing more can come of the run there."""
    return (records.read_result(folder) or {}).get("status") in ("finished", "failed")


def output_dir(config: Config, name: str) -> Path:
    """--output_dir, or runs/NAME-TIME with a number that makes it new; the same in all processes of a pod."""
    def free() -> str:
        new = f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        return next(each for i in itertools.count(1)
                    if not Path(each := new if i == 1 else f"{new}.{i}").exists())
    if config.resume and not config.output_dir:
        raise InputError("--resume: say which run with --output_dir")
    return Path(config.output_dir or parallel.agree(free)).expanduser().resolve()


def _finish(cell: Cell, task: Task) -> str:
    """Writes what the seeds of a cell came to: result.json, and a box with a dot for each."""
    places = cell.places()
    done = {own.seed: records.read_result(folder) for own, folder in places if _done(folder)}
    runs = Runs(task.name, task.name, task.main_metric,
                {seed: math.nan if result["status"] == "failed" else _dev(result, "metrics", task)
                 for seed, result in done.items()},
                next((result["majority_baseline"] for result in done.values()), None))
    best = {seed: score for seed, result in done.items()
            if result["status"] == "finished" and not math.isnan(score := _dev(result, "best", task))}
    lost = [seed for seed, yes in zip(done, runs.failed, strict=True) if yes]
    records.write_json(cell.folder / "result.json", {
        "status": "finished" if len(done) == len(places) else "interrupted", "task": task.name,
        "main_metric": task.main_metric, "majority_baseline": runs.baseline, "seeds": [*done],
        "dev": distribution.summary(runs.values(), runs.failed) if done else None,
        "failed": lost,
        "best_seed": max(best, key=lambda seed: runs.sign * best[seed], default=None),
        "seconds": round(sum(result["seconds"] / result["together"] for result in done.values()), 3)})
    if done:
        figures.boxes([runs], cell.folder / "seeds.png")
        failures.figure(records.read_metrics(cell.folder), lost, cell.folder / "failures.png")
    return ""


def _dev(result: Mapping[str, Any], which: str, task: Task) -> float:
    """The main metric of dev after the last step (metrics), or of the best checkpoint (best); nan: none."""
    score = result[which].get("dev", {}).get(task.main_metric)
    return math.nan if score is None else score


def _write_cells(cells: Sequence[Cell], found: Mapping[Path, str], ready: Ready, group: Group,
                 backbone: dict[str, str] | None) -> str:
    """Writes what folders of many seeds are, before anything else is in them."""
    for cell in cells:
        if found[cell.folder] == "replaced":
            records.clear(cell.folder)
        if cell.config.seeds:
            _describe(cell.folder, cell.config, ready, group, backbone)
    return ""


def _write_runs(places: Sequence[Place], group: Group, backbone: dict[str, str] | None) -> str:
    """Writes what the runs of a group are, before their first step."""
    for place, ready in zip(places, group.runs, strict=True):
        place.folder.mkdir(exist_ok=True)
        _describe(place.folder, place.config, ready, group, backbone)
        settings = {**ready.pretrained.settings, **head_settings(ready.task.kind, ready.task.labels)}
        save_model_folder(place.folder / "model", settings, ready.pretrained.tokenizer)
    return ""


def _describe(folder: Path, config: Config, ready: Ready, group: Group, backbone: dict[str, str] | None) -> None:
    """Writes config.json."""
    task = ready.task
    records.write_json(folder / "config.json", {
        "settings": config.to_json(),
        "task": {"name": task.name, "kind": task.kind, "labels": list(task.labels),
                 "metrics": list(task.metrics), "pair": task.pair},
        "examples": {split: len(examples) for split, examples in ready.splits.items()},
        "steps": ready.total_steps, "row_length": ready.row_length, "row_counts": list(group.runs[0].row_counts),
        "cached_layers": list(ready.model.cached), "backbone": backbone, "weights": ready.pretrained.digest,
        "together": group.size, "versions": records.versions(),
        "devices": parallel.describe_devices(group.placement)})
