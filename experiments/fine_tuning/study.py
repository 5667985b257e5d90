"""The fine_tuning study: one recipe on tasks of all kinds. Question, commands and results: README.md."""

from typing import Any

from experiments import training
from experiments.fine_tuning import claims, figure, runs, table
from experiments.fine_tuning.runs import PRE_TRAINED, RANDOM, STARTS
from experiments.records import Records
from flaxbert.errors import InputError

QUESTION = "Does one recipe, one layer on the pre-trained model and a few epochs, work on every kind of task?"

FLAGS = {**training.FLAGS, "tasks": "Only these tasks.",
         "seeds": "Runs from pre-trained weights of each task, seeds 0, 1, ...",
         "random_seeds": "The same from random weights; 0: none.", "epochs": "Epochs of every run.",
         "rate": "Peak learning rate on all tasks.", "rates": "More of them on --rates_task; none: only --rate.",
         "rates_task": "The task of --rates."}
CHOICES = ("tasks", "seeds", "random_seeds", "rates")

CLAIMS = claims.CLAIMS

_COMMON = {"epochs": 3.0, "rate": 5e-5, "batch_size": 16, "seeds": 2, "random_seeds": 1}

_REAL = {"model": "minilm", "tasks": ("sst2", "mrpc", "stsb", "cola", "mnli", "squad", "arc_easy", "conll2003"),
         "rates": ("1e-5", "3e-5"), "rates_task": "sst2", "eval_examples": 400,
         "limits": ("sst2=1500", "mrpc=1500", "stsb=1000", "cola=2500", "mnli=1200", "squad=800", "arc_easy=600",
                    "conll2003=800")}
# The bundled model learns at higher rates.
TOYS = {"model": "bundled", "tasks": training.TOYS, "rate": 1e-3, "rates": ("3e-4",), "rates_task": "toy_pair",
         "eval_examples": 0, "limits": ()}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**_COMMON, **TOYS, "tasks": ("toy_pair", "toy_token"), "epochs": 1.0, "eval_examples": 64,
             "limits": ("toy_pair=96", "toy_token=96")},
    # An hour and a half on two busy CPU cores.
    "small": {**_COMMON, **_REAL},
    # An accelerator. Devlin chose the best of four rates on dev; here all tasks have the same.
    "paper": {**_COMMON, **_REAL, "model": "bert-base-uncased", "batch_size": 32, "seeds": 5, "eval_examples": 0,
              "tasks": ("sst2", "mrpc", "stsb", "cola", "mnli", "qqp", "rte", "squad", "arc_easy", "conll2003"),
              "rates": ("1e-5", "2e-5", "3e-5", "4e-5"), "rates_task": "mrpc", "limits": ()},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of every task; other rates come last in a seed."""
    if settings["seeds"] < 1 or settings["random_seeds"] < 0:
        raise InputError("--seeds: at least 1; --random_seeds: at least 0")
    rates = [rate for rate in training.numbers("--rates", settings["rates"]) if rate != settings["rate"]]
    training.limits(settings["limits"])
    other = {"--rates_task": (settings["rates_task"],)} if rates else {}
    missing = training.missing("fine_tuning", {"--tasks": settings["tasks"], **other})
    if rates and settings["rates_task"] not in settings["tasks"]:
        raise InputError(f"--rates_task={settings['rates_task']}: none of --tasks; name one of them, or --rates=")
    main = [(task, start, settings["rate"]) for task in settings["tasks"] for start in STARTS]
    more = [(settings["rates_task"], PRE_TRAINED, rate) for rate in rates]
    seeds = {PRE_TRAINED: settings["seeds"], RANDOM: settings["random_seeds"]}
    return [{"task": task, "start": start, "rate": rate, "seed": seed} for seed in range(max(seeds.values()))
            for task, start, rate in (*main, *more) if task not in missing and seed < seeds[start]]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Scores of the last step on dev: nothing is chosen there."""
    return training.trained({**training.settings_of(point["task"], settings), "seed": point["seed"],
                             "random_init": point["start"] == RANDOM, "epochs": settings["epochs"],
                             "learning_rate": point["rate"]})


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the claims, and a row a task."""
    measured = runs.by_task([*record.measured, *record.failed()], record.about["settings"])
    verdicts = claims.verdicts(measured)
    (record.folder / "table.md").write_text(table.markdown(record.about, measured, verdicts))
    figure.draw(record.about, measured, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts], "tasks": [each._asdict() for each in measured]}
