"""The seed_selection study: what the best of many seeds is worth. Question, commands and results: README.md."""

from typing import Any

from experiments import training
from experiments.claims import judge
from experiments.records import Records
from experiments.seed_selection import claims, curves, figure, source, table
from experiments.stability import study as stability
from flaxbert.errors import InputError, note, one_of

QUESTION = "How much of the lead of the best of many seeds is left on examples that did not choose it?"
CLAIMS = claims.CLAIMS

# What the runs are trained with, where no record is read; `stability` tells them.
_TRAINING = ("model", "rate", "batch_size", "limits", "eval_examples", "dtype", "seeds_per_program")
FLAGS = {"record": "Folder of a stability record, whose runs are taken; empty: train.",
         "tasks": "Only these tasks, whose labels are classes.",
         "seeds": "Runs of each arm, seeds 1, 2, ..., where they are trained.",
         "epochs": "Of the arms that are trained, each without and with bias correction.",
         **{name: f"{stability.FLAGS[name].removesuffix('.')}, where runs are trained." for name in _TRAINING}}
CHOICES = ("tasks",)

STABILITY = "experiments/stability/records/2026-11-22"
_SMALL = {name: stability.PRESETS["small"][name] for name in _TRAINING}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**_SMALL, "record": "", "tasks": ("toy_pair",), "seeds": 3, "epochs": ("2",), "rate": 1e-3,
             "limits": ("toy_pair=64",), "eval_examples": 64},
    # Seconds. Where that record is not there it trains the arms of three epochs.
    "small": {**_SMALL, "record": STABILITY, "tasks": ("toy_pair", "mrpc", "cola"), "seeds": 25, "epochs": ("3",)},
    # An accelerator.
    "paper": {**{name: stability.PRESETS["paper"][name] for name in _TRAINING}, "record": "",
              "tasks": ("rte", "mrpc", "cola"), "seeds": 50, "epochs": ("3", "20")},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The arms of the record that are of these tasks; without one those that are to be trained."""
    if rows := _read(settings):
        names = {row["point"]["task"]: None for row in rows}
        return [source.point(row) for task in settings["tasks"] if task in names for row in rows
                if row["point"]["task"] == task]
    if settings["seeds"] < 2:
        raise InputError("--seeds: at least 2; there is nothing to choose among fewer")
    training.limits(settings["limits"])
    epochs = training.numbers("--epochs", settings["epochs"])
    if not 0 < len(epochs) < 3:
        raise InputError(f"--epochs={','.join(settings['epochs'])}: should be one number, or few, many, as 3,20")
    missing = training.missing("seed_selection", {"--tasks": settings["tasks"]})
    stability.of_classes(settings["tasks"])
    return [{"task": task, "epochs": each, "bias_correction": corrected, "rate": settings["rate"],
             "seeds": settings["seeds"]} for task in settings["tasks"] if task not in missing
            for each in epochs for corrected in (False, True)]


def _read(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the record that is to be read; none where runs are to be trained.

    Raises:
      InputError: the flag names no record, or one without these tasks.
    """
    if not settings["record"]:
        return []
    folder = source.locate(settings["record"])
    if folder is None:
        if settings["record"] != STABILITY:
            raise InputError(f"--record={settings['record']}: no record there (no results.jsonl); --record= "
                             "trains")
        note(f"seed_selection: no record at {STABILITY}; its runs are trained anew")
        return []
    rows = source.arms(folder)
    for task in settings["tasks"]:
        one_of(task, (*training.TOYS, *training.DATA), "--tasks")
    if not {row["point"]["task"] for row in rows} & {*settings["tasks"]}:
        raise InputError(f"--record={settings['record']}: has no runs of {', '.join(settings['tasks'])}; it has "
                         f"{', '.join(dict.fromkeys(row['point']['task'] for row in rows)) or 'none'}")
    return rows


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What choosing among a point's seeds promises and gives; they are read, or trained as in `stability`."""
    for row in _read(settings):
        if source.point(row) == point:
            return {**curves.found(row), "source": source.cited(source.locate(settings["record"]), row)}
    row = stability.measure_point(point, settings)
    return {**curves.found({**row, "point": point}), "source": None}


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the leads of every arm, and what the claims came to."""
    measured = curves.of(record.measured, record.about["settings"]["tasks"])
    verdicts = judge(CLAIMS, [(each.task, each) for each in measured])
    sources = list({(row["source"]["record"], row["source"]["commit"]): row["source"]
                    for row in record.measured if row["source"]}.values())
    (record.folder / "table.md").write_text(table.markdown(record.about, measured, verdicts, sources))
    figure.draw(record.about, measured, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts], "arms": table.of_arms(measured)}
