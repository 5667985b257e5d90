"""One training run of a study: its model, its data, and what came of it.

Models and data that are no part of the project lie in the folder that FLAXBERT_DATA names.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.outside import outside
from experiments.records import PointFailed
from flaxbert import tasks
from flaxbert.config import Config
from flaxbert.errors import InputError, RunFailed, note, one_of
from flaxbert.records import read_run
from flaxbert.tasks.files import matching
from flaxbert.train import finetune

# Name -> folder under FLAXBERT_DATA.
MODELS = {"minilm": "models/minilm-l6-h384-uncased"}
DATA = {"arc_easy": "data/arc", "cola": "data/glue/CoLA", "conll2003": "data/conll2003",
        "conll2003_chunk": "data/conll2003", "mnli": "data/glue/MNLI", "mrpc": "data/glue/MRPC",
        "qqp": "data/glue/QQP", "rte": "data/glue/RTE", "sick_e": "data/sick", "sick_r": "data/sick",
        "squad": "data/squad", "sst2": "data/glue/SST-2", "stsb": "data/glue/STS-B"}
FILES = {"qqp": {"dev": "heldout.tsv"}}  # split -> file, where it is not the task's own
# Texts of the flags that most studies have.
FLAGS = {"model": f"The pre-trained model: {', '.join(MODELS)}, or what flaxbert's --model takes.",
         "batch_size": "Examples a step.",
         "limits": "Training examples, TASK=NUMBER each; of a task that is not named all.",
         "eval_examples": "Score the first so many dev examples; 0: all."}
TOYS = tuple(task.name for task in tasks.TASKS.values() if task.generate)


def missing(study: str, given: Mapping[str, Iterable[str]]) -> set[str]:
    """The tasks whose data are not here; that they are left out is told.

    Args:
      study: its name.
      given: flag -> the tasks that it names.

    Raises:
      InputError: a task that studies have no data of.
    """
    names = [one_of(name, (*TOYS, *DATA), flag) for flag, each in given.items() for name in each]
    absent = [name for name in dict.fromkeys(names) if name in DATA and not outside(DATA[name])]
    if absent:
        note(f"{study}: left out for want of FLAXBERT_DATA: {', '.join(absent)}")
    return set(absent)


def model(name: str) -> str:
    """What --model is to be: the folder of one of MODELS, any other name as it is.

    Raises:
      InputError: FLAXBERT_DATA lacks it.
    """
    folder = outside(MODELS[name]) if name in MODELS else name
    if folder is None:
        raise InputError(f"--model={name}: FLAXBERT_DATA names no folder with {MODELS[name]}; --model=bundled "
                         "needs none")
    return str(folder)


def at_hand(name: str) -> bool:
    """Whether a model can be had: one of MODELS only where FLAXBERT_DATA has it."""
    return name not in MODELS or outside(MODELS[name]) is not None


def limits(given: Sequence[str]) -> dict[str, int]:
    """Task -> training examples, from TASK=NUMBER each."""
    found = {}
    for each in given:
        name, _, number = each.partition("=")
        if not number.isdecimal():
            raise InputError(f"--limits={each}: should be TASK=NUMBER, with commas between")
        found[one_of(name, (*TOYS, *DATA), "--limits")] = int(number)
    return found


def numbers(flag: str, given: Sequence[str]) -> list[float]:
    """The numbers of a list flag, each once, from the lowest; raises `InputError` on anything else."""
    try:
        return sorted({float(each) for each in given})
    except ValueError:
        raise InputError(f"{flag}={','.join(given)}: should be numbers, with commas between") from None


def settings_of(task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a `Config` that a study's `model`, `limits`, `eval_examples` and `batch_size` make.

    Of a task's files only those of train and dev are read: nothing else is scored.
    """
    files = {**tasks.get(task).files, **FILES.get(task, {})}
    named = {f"{split}_file": str(_file(task, files[split])) for split in ("train", "dev")} if task in DATA else {}
    return {"task": task, **named, "model": model(settings["model"]), "batch_size": settings["batch_size"],
            "max_train_examples": limits(settings["limits"]).get(task, 0),
            "max_eval_examples": settings["eval_examples"]}


def _file(task: str, name: str) -> Path:
    """A file of a task; `name` may have `*` in it."""
    path = outside(DATA[task]) / name
    return next(iter(matching(path)), path)


def trained(config: dict[str, Any]) -> dict[str, Any]:
    """Trains one run, whose folder is not kept; the scores are those of dev after the last step.

    Args:
      config: settings of a `Config`.

    Returns:
      {"metric": the task's first, "scores": of dev, "baseline": what the best constant answer has,
      "training_seconds": without compiling, evaluating and saving, "parameters_trained", "cached_layers"}.

    Raises:
      PointFailed: the loss was not finite.
    """
    with tempfile.TemporaryDirectory(prefix="flaxbert-study-") as scratch:
        chosen = Config.make(**config, evals_per_epoch=0, tensorboard=False, output_dir=str(Path(scratch) / "run"))
        try:
            result = finetune(chosen)
        except RunFailed as error:
            raise PointFailed(str(error)) from error
        if result["status"] == "interrupted":
            raise KeyboardInterrupt
        _, about = read_run(result["run"])
    examples = chosen.epochs * about["examples"]["train"]
    return {"metric": result["main_metric"], "scores": result["metrics"]["dev"],
            "baseline": result["majority_baseline"],
            "training_seconds": round(examples / result["examples_per_second"], 2),
            "parameters_trained": result["parameters_trained"], "cached_layers": about["cached_layers"]}
