"""The features study: heads on the frozen model against fine-tuning. Question, commands and results: README.md."""

from typing import Any

from experiments import training
from experiments.features import figure, table
from experiments.features.published import FINE_TUNED, ROWS
from experiments.records import Records
from flaxbert import tasks
from flaxbert.errors import InputError, one_of

QUESTION = "Do features of the frozen model do as well as fine-tuning, and which layers are the best?"

FLAGS = {"model": f"The pre-trained model: {', '.join(training.MODELS)}, or what flaxbert's --model takes.",
         "rows": "Only these rows of Devlin's table, on --token_task.",
         "token_task": "The task of Devlin's table.",
         "tasks": "Only these tasks of Peters' comparison.",
         "seeds": "Runs of each row of Devlin's table, seeds 0, 1, ...",
         "peters_seeds": "The same for Peters' comparison.",
         "epochs": "Epochs of fine-tuning.", "rate": "Peak learning rate of fine-tuning.",
         "batch_size": "Examples a step of fine-tuning.",
         "feature_epochs": "Epochs of the heads on the frozen model.", "feature_rate": "Their peak learning rate.",
         "feature_batch_size": "Examples a step of theirs.",
         "head_width": "Units of the BiLSTM in each direction; 0: half the model's width.",
         "limits": "Training examples, TASK=NUMBER each; of a task that is not named all.",
         "eval_examples": "Score the first so many dev examples; 0: all.",
         "cache_dir": "Where the states of the frozen model are kept."}

_PETERS = ("sst2", "mnli", "sick_e", "sick_r", "mrpc", "stsb", "conll2003")
_COMMON = {"rows": ROWS, "rate": 5e-5, "feature_rate": 1e-3, "head_width": 0, "batch_size": 16,
           "feature_batch_size": 32, "cache_dir": "~/.cache/flaxbert/activations"}

PRESETS: dict[str, dict[str, Any]] = {
    # Two minutes: does everything work.
    "tiny": {**_COMMON, "model": "bundled", "token_task": "toy_token", "tasks": ("toy_pair", "toy_token"),
             "seeds": 1, "peters_seeds": 1, "epochs": 1.0, "feature_epochs": 2.0,
             "limits": ("toy_pair=96", "toy_token=96"), "eval_examples": 64},
    # Two CPU cores: about an hour for the first seed of both tables.
    "small": {**_COMMON, "model": "minilm", "token_task": "conll2003", "tasks": _PETERS, "seeds": 3,
              "peters_seeds": 1, "epochs": 3.0, "feature_epochs": 8.0,
              "limits": ("conll2003=3000", "sst2=5000", "mnli=5000"), "eval_examples": 2000},
    # An accelerator.
    "paper": {**_COMMON, "model": "bert-base-cased", "token_task": "conll2003", "tasks": _PETERS, "seeds": 5,
              "peters_seeds": 3, "epochs": 3.0, "feature_epochs": 20.0, "limits": (), "eval_examples": 0},
}

MIX = "scalar_mix"  # the features of Peters' comparison


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Seed by seed, so that an interrupted study has something of both tables."""
    if min(settings["seeds"], settings["peters_seeds"]) < 1:
        raise InputError("--seeds and --peters_seeds: at least 1; --rows= or --tasks= leaves a table out")
    for row in settings["rows"]:
        one_of(row, ROWS, "--rows")
    training.limits(settings["limits"])
    word_task, names = settings["token_task"], settings["tasks"]
    missing = training.missing("features", {"--token_task": (word_task,), "--tasks": names})
    tables = {"seeds": [(word_task, how) for how in settings["rows"]],
              "peters_seeds": [(task, how) for task in names for how in (MIX, FINE_TUNED)]}
    found = [{"task": task, "how": how, "seed": seed}
             for seed in range(max(settings["seeds"], settings["peters_seeds"]))
             for seeds, runs in tables.items() if seed < settings[seeds]
             for task, how in runs if task not in missing]
    return [point for n, point in enumerate(found) if point not in found[:n]]  # both tables have fine-tuned names


def head_of(task: str, how: str) -> dict[str, Any]:
    """What stands on the frozen model: a row of Devlin's table, or Peters' head for the kind of task."""
    if how != MIX:
        return {"layers": how}
    row = tasks.get(task)
    top = {"crf": True} if row.kind == "token" else {"pooling": "max", "pair": "separate" if row.pair else "joint"}
    return {"layers": MIX, "mix_layer_norm": True, **top}


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Scores of the last step on dev: nothing is chosen there."""
    task, how = point["task"], point["how"]
    if how == FINE_TUNED:
        strategy = {"strategy": "full", "epochs": settings["epochs"], "learning_rate": settings["rate"]}
    else:  # float16: half the disk
        strategy = {"strategy": "features", "epochs": settings["feature_epochs"],
                    "learning_rate": settings["feature_rate"], "batch_size": settings["feature_batch_size"],
                    "head": "bilstm", "head_width": settings["head_width"], "cache_dtype": "float16",
                    "cache_dir": settings["cache_dir"], **head_of(task, how)}
    return training.trained({**training.settings_of(task, settings), **strategy, "seed": point["seed"]})


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns both tables' rows, and what is not in the paper's order."""
    settings = record.about["settings"]
    layers = table.by_layers(record.measured, settings["token_task"])
    compared = table.by_task(record.measured, MIX)
    (record.folder / "table.md").write_text(table.markdown(record.about, layers, compared))
    figure.draw(record.about, layers, compared, record.folder / "figure.png")
    return {"layers": layers, "reversed": table.reversed_pairs(layers), "tasks": compared}
