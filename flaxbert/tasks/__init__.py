"""The table of tasks, and how a run's splits are read.

Adding a task is adding a row to one of the files of this folder (a new family: a new file, named below).
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from flaxbert.config import SHAPE, Config
from flaxbert.errors import InputError, one_of
from flaxbert.tasks import (
    choices,
    conll,
    corpus,
    custom,
    files,
    glue,
    sick,
    squad,
    toy,
    toy_choices,
    toy_spans,
    toy_tokens,
)
from flaxbert.tasks.base import KINDS, Examples, Hub, Layout, Split, Task
from flaxbert.tasks.files import matching
from flaxbert.tasks.hub import read_hub
from flaxbert.tasks.labels import with_labels
from flaxbert.tasks.rows import Report
from flaxbert.tasks.submission import submission

__all__ = ["KINDS", "READERS", "TASKS", "Examples", "Hub", "Layout", "Report", "Split", "Task", "describe", "get",
           "load", "load_split", "of_kind", "read_file", "read_inputs", "resolve", "settled", "submission",
           "to_predict"]

TASKS: dict[str, Task] = {task.name: task for family in (
    toy, toy_spans, toy_choices, toy_tokens, glue, sick, squad, choices, conll, custom, corpus)
    for task in family.TASKS}

# Kind of a task -> the module that reads its files. Each has the functions of `files`: `read_records` and
# `from_hub` give one split's records, with the names `labels` and `bad`; `to_examples` makes examples of them;
# `read_inputs` reads what is to be predicted for.
READERS: dict[str, ModuleType] = {"classification": files, "regression": files, "multi_label": files,
                                 "span": squad, "choice": choices, "token": conll, "pretraining": corpus}

# Kinds of which a part of the training split is dev where there is no other: -> (train, dev).
HOLD_OUT: dict[str, Callable[[Any, Config], tuple[Any, Any]]] = {"pretraining": corpus.hold_out}

# Tasks that flags make what they are: their rows are only a beginning.
RESOLVERS: dict[str, Callable[[Config], Task]] = {"custom": custom.resolve, "pretrain": corpus.resolve}

# Settings that only some runs look at: (whether a run does, what such runs are called, the settings).
DEFAULT = {f.name: f.default for f in dataclasses.fields(Config)}
OWN_SETTINGS: tuple[tuple[Callable[[Task, Config], bool], str, tuple[str, ...]], ...] = (
    (lambda task, config: task is custom.TASK, "--task=custom", ("text_columns", "label_column", "label_type")),
    (lambda task, config: task.kind == "span", "spans (squad, squad2, toy_span)",
     ("doc_stride", "max_query_length", "max_answer_length", "n_best")),
    (lambda task, config: task.unanswerable, "spans that may lack an answer (squad2)", ("null_threshold",)),
    (lambda task, config: task.kind == "token", "tokens (conll2003, ner, ...)", ("context",)),
    (lambda task, config: task is corpus.TASK, "`flaxbert pretrain`",
     ("mask_rate", "whole_word_masking", "next_sentence", "vocabulary_size", "cased", "mimetic_init", *SHAPE)),
    (lambda task, config: config.from_scratch, "a model from scratch (--vocabulary_size, --hidden_size, ...)",
     ("mimetic_init",)),
    (lambda task, config: config.vocabulary_size > 0, "a new vocabulary (--vocabulary_size)", ("cased",)),
)
UNNAMED = ("regression", "span", "choice")  # kinds without label names
UNWEIGHED = (*UNNAMED, "pretraining")  # kinds without classes that --class_weights could weigh
NEEDED = ("train", "dev")  # splits without which there is no run
FILE_FLAGS = {"train": "train_file", "dev": "dev_file", "test": "test_file"}


def get(name: str) -> Task:
    """The row of one task; raises `InputError` listing the valid names."""
    return TASKS[one_of(name, tuple(TASKS), "--task")]


def resolve(config: Config, labels: tuple[str, ...] = ()) -> Task:
    """The task that a configuration describes.

    Args:
      config: names the task; for custom also its columns and kind.
      labels: a trained run's label names, for a task that reads them from the data; () leaves them open.

    Raises:
      InputError: an unknown task, or a flag that does not fit it.
    """
    task = get(config.task)
    for reads, whose, names in OWN_SETTINGS:
        for name in () if reads(task, config) else names:
            if getattr(config, name) != DEFAULT[name]:
                raise InputError(f"--{name}: only for {whose}; {task.name} would ignore it")
    if task.name in RESOLVERS:
        task = RESOLVERS[task.name](config)
    if labels and not task.labels and task.kind not in UNNAMED:
        task = dataclasses.replace(task, labels=tuple(labels))
    return task


def settled(config: Config) -> Config:
    """The same settings with those that depend on the task filled in: --max_length."""
    return config if config.max_length else dataclasses.replace(config, max_length=get(config.task).max_length)


def _named_files(task: Task, config: Config, needed: tuple[str, ...] = NEEDED) -> dict[str, Path]:
    """Split -> file, for the splits that flags say are in local files; `needed` ones must be there."""
    folder = Path(config.data_dir)
    if config.data_dir and not folder.is_dir():
        raise InputError(f"--data_dir={config.data_dir}: no such folder")
    given = {split: folder / getattr(config, flag) for split, flag in FILE_FLAGS.items() if getattr(config, flag)}
    for split, path in given.items():
        if not path.exists():
            raise InputError(f"--{FILE_FLAGS[split]}={getattr(config, FILE_FLAGS[split])}: no file {path}")
    if not config.data_dir:
        return given
    files = {**{split: folder / name for split, name in task.files.items()}, **given}
    missing = [path.name for split, path in files.items() if split in needed and not matching(path)]
    if missing:
        raise InputError(f"--data_dir={config.data_dir}: no {', '.join(missing)} there ({task.name} reads "
                         f"{', '.join(task.files.values())}; --train_file and --dev_file give other names)")
    return {split: path for split, path in files.items() if matching(path)}


def of_kind(kind: str, labels: tuple[str, ...]) -> Task:
    """A task without files, for a model of which nothing but its head is known."""
    return dataclasses.replace(custom.TASK, kind=kind, labels=labels if kind not in UNNAMED else ())


def read_file(task: Task, path: str | Path, skip_bad_rows: bool = False,
              labels_required: bool = False) -> tuple[Split, Report]:
    """One file of a task whose label names are known; arguments and errors as `files.read_records`."""
    reader = READERS[task.kind]
    records = reader.read_records(task, path, skip_bad_rows, labels_required)
    return reader.to_examples(task, records, labels_required)


def read_inputs(task: Task, path: str | Path, skip_bad_rows: bool = False) -> tuple[Split, Report]:
    """What to predict for: a file as the task's own, or one without labels; arguments as `files.read_inputs`."""
    return READERS[task.kind].read_inputs(task, path, skip_bad_rows)


def _read_all(task: Task, config: Config) -> dict[str, Any]:
    """Every split from where the flags say it is: files first, then the generator, then the hub."""
    reader = READERS[task.kind]
    named = _named_files(task, config)
    hold_out = None if config.hub_dataset else HOLD_OUT.get(task.kind)
    lacking = [split for split in NEEDED if split not in named and not (hold_out and split == "dev")]
    if config.hub_dataset and not lacking:
        given = [f"--{flag}" for flag in ("data_dir", "train_file", "dev_file") if getattr(config, flag)]
        raise InputError(f"--hub_dataset={config.hub_dataset}: not together with {' and '.join(given)}, which "
                         "would be read in its place")
    found: dict[str, Any] = {split: reader.read_records(task, path, config.skip_bad_rows, split in NEEDED)
                             for split, path in named.items()}
    if not lacking:
        if "dev" not in found:
            found["train"], found["dev"] = hold_out(found["train"], config)
        return found
    if config.hub_dataset and not task.hub:
        raise InputError(f"--hub_dataset={config.hub_dataset}: {task.name} is generated, it is no dataset")
    if config.hub_dataset or (task.hub and task.hub.path and not config.data_dir):
        return {**read_hub(task, reader.from_hub, config.hub_dataset, config.skip_bad_rows), **found}
    if task.generate and not config.data_dir:
        return {**{split: task.generate(split) for split in ("train", "dev", "test")}, **found}
    flags = " and ".join(f"--{FILE_FLAGS[split]}" for split in lacking)
    names = " and ".join(Path(task.files[split]).name for split in lacking) if task.files else ""
    folder = f"--data_dir=FOLDER with {names}, or " if names else ""
    raise InputError(f"--task={task.name} needs a {' and a '.join(lacking)} file; give {folder}{flags}")


def _with_labels_of(task: Task, records: Any, names: Iterable[object] = (), least: int = 2) -> Task:
    """The task with the label names of these records, and more `names`, where it has none yet."""
    known = [label for label in (*records.labels, *names) if label is not None or task.kind == "multi_label"]
    return with_labels(task, known, records.bad.name, least)


def _check_class_weights(task: Task, weights: tuple[float, ...]) -> None:
    if not weights:
        return
    shown = f"--class_weights={','.join(f'{weight:g}' for weight in weights)}"
    if task.kind in UNWEIGHED:
        raise InputError(f"{shown}: {task.name} is a {task.kind} task, it has no classes")
    if len(weights) != len(task.labels):
        raise InputError(f"{shown}: {len(weights)} weights for {len(task.labels)} classes "
                         f"({', '.join(task.labels)}); give one each, in this order")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InputError(f"{shown}: weights must be finite, none below 0, and not all 0")


def load(config: Config) -> tuple[Task, dict[str, Split], Report]:
    """Reads every split of `config.task` from where the flags say it is.

    Files named by flags come first; the rest is read from `--data_dir`, generated (toy tasks), or taken from
    the hub. When flags name both train and dev files, nothing else is asked for.

    Returns:
      the task with its label names; the splits in the order train, dev, dev_mismatched, test,
      test_mismatched, as far as they exist; and what was skipped.

    Raises:
      InputError: names flag, file and line, and what would be right.
    """
    task = resolve(config)
    raw = _read_all(task, config)
    if not isinstance(raw["train"], Split):
        task = _with_labels_of(task, raw["train"])
    _check_class_weights(task, config.class_weights)
    splits, report = {}, Report()
    for split in (*(task.files or FILE_FLAGS), *raw):
        if split not in raw or split in splits:
            continue
        examples, notes = raw[split], Report()
        if not isinstance(examples, Split):
            examples, notes = READERS[task.kind].to_examples(task, examples, labels_required=split in NEEDED)
        limit = config.max_train_examples if split == "train" else config.max_eval_examples
        splits[split], report = examples.head(limit), report + notes
    if config.predict_test and not any(split.startswith("test") for split in splits):
        report += Report(lines=(f"--predict_test: {task.name} has no test split here, dev is predicted in its "
                                "place; --test_file names one",))
    return task, splits, report


def to_predict(task: Task, splits: Iterable[str]) -> dict[str, str]:
    """Split -> which split's official file it is written as, for --predict_test.

    The test splits. Where there are none, those of dev: under their own names, but for a task whose official files
    are of dev (SQuAD), since it has no test split at all.
    """
    tests = {split: split for split in splits if split.startswith("test")}
    named = not task.files or any(split.startswith("test") for split in task.files)
    return tests or {split: split if named else split.replace("dev", "test")
                     for split in splits if split.startswith("dev")}


def load_split(config: Config, split: str, names: Iterable[object] = ()) -> tuple[Task, Split, Report]:
    """One split with labels. Where it is a file, nothing else is read, and it names the labels.

    Args:
      config: as for `load`.
      split: train, dev, dev_mismatched, test, ...
      names: of labels that it may lack.

    Raises:
      InputError: as `load`; or there is no such split, or it has no labels.
    """
    task = resolve(config)
    path = _named_files(task, config, (split,)).get(split)
    if path:
        records = READERS[task.kind].read_records(task, path, config.skip_bad_rows, labels_required=True)
        task = _with_labels_of(task, records, names, least=1)  # scores can be of one class alone
        return task, *READERS[task.kind].to_examples(task, records, labels_required=True)
    task, splits, report = load(config)
    if split not in splits:
        raise InputError(f"--split={split}: {task.name} has no such split here; valid: {', '.join(splits)}")
    if splits[split].labels is None:
        raise InputError(f"--split={split}: has no labels")
    return task, splits[split], report


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Left-aligned text columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


def describe() -> str:
    """The text of `flaxbert tasks`: every task with its metrics, files and layout."""
    table = [("task", "kind", "metrics (first: best checkpoint)", "what is asked")]
    table += [(task.name, task.kind, ", ".join(task.metrics), task.title) for task in TASKS.values()]
    lines = [*_columns(table), "", "Files (--data_dir=FOLDER), their columns, and where the hub has them:"]
    for task in TASKS.values():
        if task.generate:
            continue
        first, *more = task.usage or (", ".join(task.files.values()), *map(str, task.layouts))
        lines += [f"  {task.name}: {first}", *(f"    {line}" for line in more)]
        if task.hub and task.hub.path:
            lines.append("    hub: " + " ".join(part for part in (task.hub.path, task.hub.config) if part))
    generated = ", ".join(task.name for task in TASKS.values() if task.generate)
    return "\n".join([*lines, f"Made on the spot, no files needed: {generated}."])
