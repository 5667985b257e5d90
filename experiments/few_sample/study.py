"""The few_sample study: three remedies on small data. Question, commands and results: README.md."""

from typing import Any

from experiments import seeds, training
from experiments.few_sample import arms, claims, figure, table
from experiments.records import Records
from flaxbert.errors import InputError

QUESTION = "What do bias correction, re-initialised top layers and more epochs change on few examples?"
CLAIMS = claims.CLAIMS

FLAGS = {**training.FLAGS, "tasks": "Only these tasks.",
         "seeds": "Runs of each arm, seeds 1, 2, ...",
         "epochs": "Epochs of the arms: few, many.",
         "reinit_layers": "So many top layers, and the pooler, are drawn anew in half of the arms.",
         "rate": "Peak learning rate.", **seeds.FLAGS}
CHOICES = ("tasks",)

_COMMON = {"epochs": ("3", "6"), "eval_examples": 0, "dtype": "float32", "seeds_per_program": "auto"}

PRESETS: dict[str, dict[str, Any]] = {
    # Minutes: does everything work.
    "tiny": {**_COMMON, "model": "bundled", "tasks": ("toy_pair",), "seeds": 2, "epochs": ("1", "2"),
             "reinit_layers": 1, "rate": 1e-3, "batch_size": 16, "limits": ("toy_pair=64",), "eval_examples": 64},
    # An hour on two CPU cores.
    "small": {**_COMMON, "model": "bundled", "tasks": ("toy_pair", "mrpc"), "seeds": 5, "reinit_layers": 1,
              "rate": 6e-4, "batch_size": 32, "limits": ("toy_pair=1000", "mrpc=1000")},
    # An accelerator.
    "paper": {**_COMMON, "model": "bert-large-uncased", "tasks": ("rte", "mrpc", "stsb", "cola"), "seeds": 25,
              "epochs": ("3", "20"), "reinit_layers": 3, "rate": 2e-5, "batch_size": 32,
              "limits": ("rte=1000", "mrpc=1000", "stsb=1000", "cola=1000")},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """All tasks of an arm before the next arm; those of few epochs first."""
    if settings["seeds"] < 1 or settings["reinit_layers"] < 1:
        raise InputError("--seeds and --reinit_layers: at least 1")
    epochs = training.numbers("--epochs", settings["epochs"])
    if len(epochs) != 2:
        raise InputError(f"--epochs={','.join(settings['epochs'])}: should be few, many, as 3,6")
    training.limits(settings["limits"])
    missing = training.missing("few_sample", {"--tasks": settings["tasks"]})
    return [{"task": task, "epochs": epochs[longer], "reinit_layers": settings["reinit_layers"] * anew,
             "bias_correction": corrected, "rate": settings["rate"], "seeds": settings["seeds"]}
            for corrected, anew, longer in arms.ARMS for task in settings["tasks"] if task not in missing]


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All seeds of an arm: dev after the last step, so that nothing is chosen there."""
    with seeds.trained(**training.settings_of(point["task"], settings), recipe="zhang", epochs=point["epochs"],
                 learning_rate=point["rate"], bias_correction=point["bias_correction"],
                 reinit_layers=point["reinit_layers"], reinit_pooler=point["reinit_layers"] > 0,
                 dtype=settings["dtype"], seeds=range(1, point["seeds"] + 1),
                 seeds_per_program=settings["seeds_per_program"]) as (folder, _):
        return seeds.kept(folder)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the numbers of every arm, and what the claims came to."""
    measured = arms.of(record.measured, record.about["settings"])
    verdicts = claims.verdicts(measured)
    (record.folder / "table.md").write_text(table.markdown(record.about, measured, verdicts))
    figure.draw(record.about, measured, record.folder / "figure.png")
    return {"claims": [verdict._asdict() for verdict in verdicts],
            "arms": [arm.numbers for each in measured for arm in each.arms.values()]}
