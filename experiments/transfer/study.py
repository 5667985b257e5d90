"""The transfer study: the bundled model against the same network from random weights. Results: README.md."""

import tempfile
from pathlib import Path
from typing import Any

from experiments.outside import outside
from experiments.records import PointFailed, Records
from experiments.transfer import figure, table
from flaxbert import tasks
from flaxbert.config import Config
from flaxbert.errors import InputError, RunFailed, note, one_of
from flaxbert.model_files import BUNDLED
from flaxbert.train import finetune

QUESTION = "What does pre-training buy: the bundled model against the same network from random weights?"

FLAGS = {"model": "The pre-trained model.", "tasks": "Only these tasks.",
         "seeds": "Runs of each kind, seeds 0, 1, ...", "epochs": "Epochs of every run.",
         "toy_rate": "Peak learning rate on the toy tasks.", "real_rate": "Peak learning rate on real tasks."}

READMES = (BUNDLED / "README.md",)
STARTS = ("pre-trained", "random")
# Tasks on real data: their folder under FLAXBERT_DATA, and how many training examples.
REAL: dict[str, tuple[str, int]] = {"mrpc": ("data/glue/MRPC", 0), "sst2": ("data/glue/SST-2", 5000),
                                    "conll2003": ("data/conll2003", 3000)}
TOYS = tuple(task.name for task in tasks.TASKS.values() if task.generate)

# Chosen on seed 0: a toy run has 190 steps, in which smaller rates move pre-trained weights too little (they are
# four times the size of random ones); at 1e-3 neither start learns MRPC.
_RATES = {"toy_rate": 1e-3, "real_rate": 3e-4}

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything work.
    "tiny": {"model": "bundled", "tasks": ("toy_sentence",), "seeds": 1, "epochs": 0.2, **_RATES},
    # About an hour on two CPU cores.
    "small": {"model": "bundled", "tasks": (*TOYS, *REAL), "seeds": 5, "epochs": 3.0, **_RATES},
    # An accelerator.
    "paper": {"model": "bundled", "tasks": (*TOYS, *REAL), "seeds": 25, "epochs": 3.0, **_RATES},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of every task."""
    if settings["seeds"] < 1:
        raise InputError("--seeds: at least 1")
    for name in settings["tasks"]:
        one_of(name, (*TOYS, *REAL), "--tasks")
    missing = [name for name in settings["tasks"] if name in REAL and not outside(REAL[name][0])]
    if missing:
        note(f"transfer: left out for want of FLAXBERT_DATA: {', '.join(missing)}")
    return [{"task": name, "start": start, "seed": seed} for seed in range(settings["seeds"])
            for name in settings["tasks"] if name not in missing for start in STARTS]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Scores of the last step on dev: nothing is chosen there."""
    folder, limit = REAL.get(point["task"], ("", 0))
    with tempfile.TemporaryDirectory(prefix="flaxbert-transfer-") as scratch:
        config = Config.make(
            task=point["task"], data_dir=str(outside(folder)) if folder else "", max_train_examples=limit,
            model=settings["model"], random_init=point["start"] == "random", seed=point["seed"],
            epochs=settings["epochs"], learning_rate=settings["real_rate" if folder else "toy_rate"],
            evals_per_epoch=0, tensorboard=False, output_dir=str(Path(scratch) / "run"))
        try:
            result = finetune(config)
        except RunFailed as error:
            raise PointFailed(str(error)) from error
    return {"metric": result["main_metric"], "scores": result["metrics"]["dev"],
            "examples_per_second": result["examples_per_second"]}


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns a row a task."""
    order = record.about["settings"]["tasks"]
    rows = sorted(table.compare(record.measured), key=lambda row: order.index(row["task"]))
    (record.folder / "table.md").write_text(table.markdown(record.about, rows))
    figure.draw(record.about, rows, record.folder / "figure.png")
    return {"tasks": rows}
