"""The optimizers study: first steps with and without bias correction. Question and results: README.md."""

from typing import Any

from experiments import seeds, training
from experiments.claims import judge
from experiments.optimizers import claims, figure, steps, table, theory
from experiments.records import Records
from flaxbert.config import RECIPES
from flaxbert.errors import InputError

QUESTION = "Why does Adam's bias correction act as a warm-up, and does either replace the other?"
CLAIMS = claims.CLAIMS

FLAGS = {**training.FLAGS, "tasks": "Only these tasks; none: the formulas alone.",
         "seeds": "Runs of each arm, seeds 1, 2, ...", "epochs": "Epochs of each run.",
         "rate": "Peak learning rate of the runs.",
         "warmup": "Share of the steps that is warm-up, in the arms with it.",
         "theory_steps": "Steps of the run of which the recipes' formulas are shown.",
         **seeds.FLAGS}
CHOICES = ("tasks",)

# 468 steps: three epochs of RTE in batches of 16.
_COMMON = {"epochs": 3.0, "warmup": 0.1, "theory_steps": 468, "batch_size": 16, "eval_examples": 0,
           "dtype": "float32", "seeds_per_program": "auto"}

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything work.
    "tiny": {**_COMMON, "model": "bundled", "tasks": ("toy_pair",), "seeds": 2, "epochs": 2.0, "rate": 6e-4,
             "limits": ("toy_pair=128",), "eval_examples": 64},
    # Minutes on two CPU cores. At 6e-4 some runs without correction fail in the record of stability.
    "small": {**_COMMON, "model": "bundled", "tasks": ("toy_pair", "mrpc"), "seeds": 5, "rate": 6e-4,
              "limits": ("toy_pair=512", "mrpc=512")},
    # An accelerator.
    "paper": {**_COMMON, "model": "bert-large-uncased", "tasks": ("rte", "mrpc", "cola"), "seeds": 25,
              "rate": 2e-5, "limits": ()},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The formulas of every recipe, then the runs, a task after the other."""
    if settings["seeds"] < 1 or settings["theory_steps"] < 1:
        raise InputError("--seeds and --theory_steps: at least 1")
    if not 0 < settings["warmup"] < 1:
        raise InputError(f"--warmup={settings['warmup']:g}: should be a share of the steps, above 0 and below 1")
    training.limits(settings["limits"])
    missing = training.missing("optimizers", {"--tasks": settings["tasks"]})
    return [*({"part": "theory", "recipe": recipe, "steps": settings["theory_steps"]} for recipe in RECIPES),
            *({"part": "runs", "task": task, "bias_correction": corrected, "warmup": settings["warmup"] * warm,
               "rate": settings["rate"], "epochs": settings["epochs"], "seeds": settings["seeds"]}
              for task in settings["tasks"] if task not in missing for corrected, warm in steps.ARMS)]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A recipe's formulas, or all seeds of an arm; without weight decay, so that an update is Adam's alone."""
    if point["part"] == "theory":
        return theory.found(point["recipe"], point["steps"])
    with seeds.trained(**training.settings_of(point["task"], settings), recipe="zhang", epochs=point["epochs"],
                 learning_rate=point["rate"], bias_correction=point["bias_correction"], warmup=point["warmup"],
                 diagnose_every=1, dtype=settings["dtype"], seeds=range(1, point["seeds"] + 1),
                 seeds_per_program=settings["seeds_per_program"]) as (folder, config):
        return steps.found(folder, config)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md, figure.png and steps.png; returns a row a recipe and an arm, and the verdicts."""
    settings = record.about["settings"]
    measured = steps.of(record.measured, settings)
    recipes = {row["point"]["recipe"]: row for row in record.measured if row["point"]["part"] == "theory"}
    verdicts = judge(CLAIMS, [(each.task, each) for each in measured])
    (record.folder / "table.md").write_text(table.markdown(record.about, recipes, measured, verdicts))
    figure.draw(record.about, recipes, measured, record.folder)
    return {"claims": [verdict._asdict() for verdict in verdicts], "recipes": table.of_recipes(recipes),
            "arms": table.of_arms(measured)}
