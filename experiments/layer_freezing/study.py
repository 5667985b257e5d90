"""The study of layer freezing: score and time by the number of frozen layers. All else: README.md."""

import dataclasses
import tempfile
import time
from typing import Any

from experiments import training
from experiments.claims import judge
from experiments.layer_freezing import claims, figure, table
from experiments.records import Records
from flaxbert import activations, parallel
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.prepare import bottom_of, prepare

QUESTION = "What do frozen layers cost in score, and what do they save in time, when they are computed once?"

FLAGS = {**training.FLAGS, "tasks": "Only these tasks.",
         "frozen_layers": "Freeze 0, 1, ..., so many of the bottom layers.",
         "seeds": "Runs of each kind, seeds 0, 1, ...", "epochs": "Epochs of every run.",
         "rate": "Peak learning rate of every run.",
         "timed": "Keep the seconds; --notimed where the machine does other things, which come and go."}
CHOICES = ("tasks", "seeds", "frozen_layers", "timed")

CLAIMS = claims.CLAIMS

_COMMON = {"rate": 5e-5, "epochs": 3.0, "batch_size": 16, "timed": True}

# Twice the rate: a model this small learns a question of SQuAD slowly.
_REAL = {"model": "minilm", "tasks": ("mrpc", "mnli", "squad"), "frozen_layers": 6, "seeds": 1, "rate": 1e-4,
         "limits": ("mnli=4000", "squad=1500"), "eval_examples": 500}
# The bundled model learns at still higher rates.
TOYS = {"model": "bundled", "tasks": ("toy_pair", "toy_token"), "frozen_layers": 4, "seeds": 3, "rate": 1e-3,
         "limits": (), "eval_examples": 0}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**_COMMON, "model": "bundled", "tasks": ("toy_pair",), "frozen_layers": 2, "seeds": 1,
             "limits": ("toy_pair=64",), "eval_examples": 64},
    # Two hours on two busy CPU cores.
    "small": {**_COMMON, **_REAL},
    # An accelerator.
    "paper": {**_COMMON, "model": "bert-base-uncased", "tasks": ("mrpc", "mnli", "squad"), "frozen_layers": 12,
              "seeds": 5, "batch_size": 32, "limits": (), "eval_examples": 0},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, and all tasks of a number of layers before those of the next."""
    if settings["seeds"] < 1 or settings["frozen_layers"] < 0:
        raise InputError("--seeds: at least 1; --frozen_layers: at least 0")
    training.limits(settings["limits"])
    missing = training.missing("layer_freezing", {"--tasks": settings["tasks"]})
    here = [task for task in settings["tasks"] if task not in missing]
    return [{"task": task, "frozen": frozen, "seed": seed} for seed in range(settings["seeds"])
            for frozen in range(settings["frozen_layers"] + 1) for task in here]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Dev after the last step, and what training and the states of the frozen layers took."""
    with tempfile.TemporaryDirectory(prefix="flaxbert-freezing-") as folder:  # the states of this point alone
        config = {**training.settings_of(point["task"], settings), "seed": point["seed"],
                  "strategy": "freeze", "frozen_layers": point["frozen"], "cache_dir": folder,
                  "epochs": settings["epochs"], "learning_rate": settings["rate"]}
        if settings["timed"]:
            return {"cache_seconds": cache_seconds(Config.make(**config)), **training.trained(config)}
        return {**training.trained(config), "cache_seconds": None, "training_seconds": None}


def cache_seconds(config: Config) -> float:
    """Seconds that computing and writing the states of a run takes, without compiling; the run finds them."""
    ready = prepare(dataclasses.replace(config, cache_frozen="false"), parallel.make(config).shards)
    model = ready.model
    layers = activations.layers_to_keep(config, ready.task.kind, model.reads, model.frozen_prefix, config.epochs)
    if not layers:
        return 0.0
    bottom = bottom_of(config, model, layers, ready.params)
    splits = {split: each for split, each in ready.encoded.items() if each.labels is not None}
    # The first time compiles.
    if activations.keep(config, bottom, splits, {"task": config.task}) is None:
        return 0.0
    with tempfile.TemporaryDirectory(prefix="flaxbert-freezing-") as again:
        begun = time.perf_counter()
        activations.keep(dataclasses.replace(config, cache_dir=again), bottom, splits, {})
        return round(time.perf_counter() - begun, 2)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the claims, and a row a task and number of frozen layers."""
    rows = table.by_layers(record.measured)
    verdicts = judge(CLAIMS, [(each.task, each) for each in claims.of(record.measured)])
    (record.folder / "table.md").write_text(table.markdown(record.about, rows, verdicts))
    figure.draw(record.about, rows, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts], "frozen": rows}
