"""The layer_change study: the layers of a model while it trains. Question, commands and results: README.md."""

from typing import Any

from experiments import training
from experiments.layer_change import claims, figure, following, runs, table
from experiments.records import Records
from flaxbert import tasks
from flaxbert.analysis.base import Settings
from flaxbert.config import Config
from flaxbert.errors import InputError

QUESTION = "Which layers does fine-tuning change, when, and because their weights move more than others'?"

FLAGS = {**training.FLAGS, "tasks": "Only these tasks.",
         "seeds": "Runs of each task, seeds 0, 1, ...", "epochs": "Epochs of every run.",
         "rate": "Peak learning rate of every run.",
         "steps": "Look at the model at so many steps, each twice the one before, and the last one.",
         "other": "The other text: dev of this task of lone texts; empty: sentences of a toy task.",
         "texts": "Look at so many sequences of dev, and of the other text.",
         "tokens": "RSA: compare so many tokens of each."}

CLAIMS = claims.CLAIMS

_COMMON = {"epochs": 3.0, "batch_size": 16, "seeds": 2, "steps": 6, "texts": 100, "tokens": 500}

_REAL = {"model": "minilm", "tasks": ("mnli", "squad", "conll2003", "conll2003_chunk"), "rate": 1e-4,
         "other": "sst2", "eval_examples": 400,
         "limits": ("mnli=2000", "squad=500", "conll2003=1000", "conll2003_chunk=1000")}
# The bundled model learns at higher rates.
TOYS = {"model": "bundled", "tasks": ("toy_pair", "toy_span", "toy_token"), "rate": 1e-3, "other": "",
         "eval_examples": 0, "limits": ()}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**_COMMON, **TOYS, "tasks": ("toy_pair", "toy_token"), "seeds": 1, "epochs": 1.0, "steps": 3,
             "eval_examples": 64, "texts": 40, "tokens": 200, "limits": ("toy_pair=96", "toy_token=96")},
    # Forty minutes on two CPU cores, three quarters of it training. The rate of the layer_freezing study.
    "small": {**_COMMON, **_REAL},
    # An accelerator.
    "paper": {**_COMMON, **_REAL, "model": "bert-base-uncased", "batch_size": 32, "rate": 5e-5, "seeds": 5,
              "steps": 10, "limits": (), "eval_examples": 0, "texts": 1000, "tokens": 2000},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of every task."""
    if min(settings["seeds"], settings["steps"], settings["texts"], settings["tokens"]) < 1:
        raise InputError("--seeds, --steps, --texts and --tokens: at least 1")
    training.limits(settings["limits"])
    other = settings["other"]
    missing = training.missing("layer_change", {"--tasks": settings["tasks"], "--other": (other,) * bool(other)})
    if other in missing:
        raise InputError(f"--other={other}: its data are not here; --other= takes sentences of a toy task")
    if other and (tasks.get(other).kind != "classification" or tasks.get(other).pair):
        raise InputError(f"--other={other}: should be a task of lone texts, as sst2")
    return [{"task": task, "seed": seed} for seed in range(settings["seeds"])
            for task in settings["tasks"] if task not in missing]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The layers at each step; dev after the last one, so that what was learnt is known."""
    config = Config.make(**training.settings_of(point["task"], settings), seed=point["seed"],
                         epochs=settings["epochs"], learning_rate=settings["rate"], evals_per_epoch=0,
                         tensorboard=False)
    ready, result, encoders = following.follow(config, settings["steps"])
    found = following.changes(ready.pretrained, encoders, ready.config, _analyses(settings), point["seed"])
    return {"metric": result["main_metric"], "scores": result["metrics"]["dev"],
            "baseline": result["majority_baseline"], "total_steps": ready.total_steps, "changes": found}


def _analyses(settings: dict[str, Any]) -> Settings:
    """Which texts the analyses read."""
    other = settings["other"]
    given = {"input": training.settings_of(other, settings)["dev_file"],
             "text_columns": tasks.get(other).layouts[0].texts} if other in training.DATA else {}
    return Settings.make(after="the run", what=following.OF_STATES, texts=settings["texts"],
                         tokens=settings["tokens"], **given)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the claims, and the thirds of every task."""
    measured = runs.by_task(record.measured, record.about["settings"])
    verdicts = claims.verdicts(measured)
    (record.folder / "table.md").write_text(table.markdown(record.about, measured, verdicts))
    figure.draw(record.about, measured, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts],
            "thirds": [row for each in measured for row in table.thirds_of(each)]}
