"""The stability study: many seeds of one recipe. Question, commands and results: README.md."""

from typing import Any

from experiments import seeds, training
from experiments.records import Records
from experiments.stability import arms, claims, figure, table
from flaxbert import tasks
from flaxbert.errors import InputError

QUESTION = "How often does fine-tuning fail over many seeds, and what do bias correction and 20 epochs change?"

FLAGS = {**training.FLAGS, "tasks": "Only these tasks, whose labels are classes.",
         "seeds": "Runs of each arm of few epochs, seeds 1, 2, ...",
         "many_seeds": "The same of the arms of many epochs.", "grid_seeds": "The same of each point of the grid.",
         "epochs": "Epochs of the arms: few, many.", "rate": "Peak learning rate of the arms.",
         "rates": "Higher ones for the grid, at few epochs; none: no grid.",
         **seeds.FLAGS}
CHOICES = ("tasks", "rates")

CLAIMS = claims.CLAIMS

_COMMON = {"epochs": ("3", "20"), "batch_size": 16, "eval_examples": 0, "dtype": "float32",
           "seeds_per_program": "auto"}

PRESETS: dict[str, dict[str, Any]] = {
    # A minute: does everything work.
    "tiny": {**_COMMON, "model": "bundled", "tasks": ("toy_pair",), "seeds": 3, "many_seeds": 3,
             "grid_seeds": 2, "epochs": ("2", "4"), "rate": 1e-3, "rates": ("4e-3",), "limits": ("toy_pair=64",),
             "eval_examples": 64},
    # Two hours on two busy CPU cores. The bundled model learns at 3e-4, not at 2e-5.
    "small": {**_COMMON, "model": "bundled", "tasks": ("toy_pair", "cola"), "seeds": 25, "many_seeds": 10,
              "grid_seeds": 10, "rate": 3e-4, "rates": ("6e-4", "1e-3", "2e-3", "4e-3"),
              "limits": ("toy_pair=512", "cola=512", "mrpc=512")},
    # An accelerator.
    "paper": {**_COMMON, "model": "bert-large-uncased", "tasks": ("rte", "mrpc", "cola"), "seeds": 25,
              "many_seeds": 25, "grid_seeds": 25, "rate": 2e-5, "rates": ("4e-5", "8e-5", "1.6e-4"),
              "limits": ()},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """All tasks of an arm before the next arm: those of few epochs, the grid, those of many epochs."""
    if min(settings["seeds"], settings["many_seeds"], settings["grid_seeds"]) < 1:
        raise InputError("--seeds, --many_seeds and --grid_seeds: at least 1; --rates= leaves the grid out")
    epochs, rates = (training.numbers(f"--{name}", settings[name]) for name in ("epochs", "rates"))
    if len(epochs) != 2 or epochs[0] >= epochs[1]:
        raise InputError(f"--epochs={','.join(settings['epochs'])}: should be few, many, as 3,20")
    if rates and rates[0] <= settings["rate"]:
        raise InputError(f"--rates={','.join(settings['rates'])}: should be above --rate={settings['rate']:g}")
    training.limits(settings["limits"])
    missing = training.missing("stability", {"--tasks": settings["tasks"]})
    of_classes(settings["tasks"])
    few, many = epochs
    cells = [("arms", few, settings["rate"], settings["seeds"]),
             *(("grid", few, rate, settings["grid_seeds"]) for rate in rates),
             ("arms", many, settings["rate"], settings["many_seeds"])]
    return [{"part": part, "task": task, "epochs": epochs, "bias_correction": corrected, "rate": rate,
             "seeds": count} for part, epochs, rate, count in cells
            for task in settings["tasks"] if task not in missing for corrected in (False, True)]


def of_classes(names: tuple[str, ...]) -> None:
    """Raises `InputError` on a task whose labels are no classes."""
    others = [name for name in names if tasks.get(name).kind != "classification"]
    if others:
        raise InputError(f"--tasks={','.join(others)}: the labels are no classes; name tasks of classes alone")


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All seeds of a point: dev after the last step, so that nothing is chosen there."""
    with seeds.trained(**training.settings_of(point["task"], settings), recipe="mosbach", epochs=point["epochs"],
                 learning_rate=point["rate"], bias_correction=point["bias_correction"], predict_test=True,
                 dtype=settings["dtype"], seeds=range(1, point["seeds"] + 1),
                 seeds_per_program=settings["seeds_per_program"]) as (folder, config):
        return arms.found(folder, config)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and the figures; returns the numbers of every point, and what the claims came to."""
    measured = arms.of(record.measured, record.about["settings"])
    verdicts = claims.verdicts(measured)
    (record.folder / "table.md").write_text(table.markdown(record.about, measured, verdicts))
    figure.draw(record.about, measured, record.folder)
    return {"claims": [verdict._asdict() for verdict in verdicts],
            "arms": [arm.numbers for task in measured for arm in task.every]}
