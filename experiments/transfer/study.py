"""The transfer study: the bundled model against the same network from random weights. Results: README.md."""

from typing import Any

from experiments import training
from experiments.records import Records
from experiments.transfer import figure, table
from flaxbert.errors import InputError
from flaxbert.model_files import BUNDLED

QUESTION = "What does pre-training buy: the bundled model against the same network from random weights?"

FLAGS = {**training.FLAGS, "tasks": "Only these tasks.",
         "seeds": "Runs of each kind, seeds 0, 1, ...", "epochs": "Epochs of every run.",
         "toy_rate": "Peak learning rate on the toy tasks.", "real_rate": "Peak learning rate on real tasks."}

READMES = (BUNDLED / "README.md",)
STARTS = ("pre-trained", "random")

# Rates chosen on seed 0: a toy run has 190 steps, in which smaller rates move pre-trained weights too little (they
# are four times the size of random ones); at 1e-3 neither start learns MRPC.
_COMMON = {"model": "bundled", "tasks": (*training.TOYS, "mrpc", "sst2", "conll2003"), "epochs": 3.0,
           "toy_rate": 1e-3, "real_rate": 3e-4, "batch_size": 32, "limits": ("sst2=5000", "conll2003=3000"),
           "eval_examples": 0}

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything work.
    "tiny": {**_COMMON, "tasks": ("toy_sentence",), "seeds": 1, "epochs": 0.2},
    # About three hours on one busy CPU core.
    "small": {**_COMMON, "seeds": 5},
    # An accelerator.
    "paper": {**_COMMON, "seeds": 25},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of every task."""
    if settings["seeds"] < 1:
        raise InputError("--seeds: at least 1")
    training.limits(settings["limits"])
    missing = training.missing("transfer", {"--tasks": settings["tasks"]})
    return [{"task": name, "start": start, "seed": seed} for seed in range(settings["seeds"])
            for name in settings["tasks"] if name not in missing for start in STARTS]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Scores of the last step on dev: nothing is chosen there."""
    rate = settings["toy_rate" if point["task"] in training.TOYS else "real_rate"]
    return training.trained({**training.settings_of(point["task"], settings), "seed": point["seed"],
                             "random_init": point["start"] == "random", "epochs": settings["epochs"],
                             "learning_rate": rate})


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns a row a task."""
    rows = table.compare(record.measured, record.about["settings"]["tasks"])
    (record.folder / "table.md").write_text(table.markdown(record.about, rows))
    figure.draw(record.about, rows, record.folder / "figure.png")
    return {"tasks": rows}
