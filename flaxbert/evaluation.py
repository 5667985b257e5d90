"""What trained models are worth: scores of runs on any split or file, and of anybody's predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import families, predict, records, tasks
from flaxbert.config import Config
from flaxbert.errors import InputError, note
from flaxbert.tasks.base import Split


def evaluate(run: str, split: str = "dev", output: str = "", checkpoint: str = "best", data_dir: str = "",
             file: str = "", skip_bad_rows: bool = False, write: str = "", seed: str = "best") -> dict[str, Any]:
    """Scores a run on one of its splits, or on another file of the same task.

    Args:
      run: the run's folder.
      split: train, dev, dev_mismatched, test, ...
      output: file for the scores as JSON, beside the returned ones.
      checkpoint: best or last.
      data_dir: where the task's files are now, if not where they were.
      file: score this file in place of a split.
      skip_bad_rows: count rows of it that cannot be read in place of stopping.
      write: folder for the predictions of the split in the official format, for which it needs no labels.
      seed: as of `predict.load`.

    Returns:
      {"run", "split", "checkpoint", "examples", "loss", metrics ...}; of a split without labels no scores; of a
      folder of many seeds "seeds" too, those that were scored.

    Raises:
      InputError: no such run, split or file, or one without labels and nothing to write.
    """
    folder = Path(run).expanduser()
    config, about = records.read_run(folder)
    task = tasks.resolve(config, tuple(about["task"]["labels"]))
    if file:
        examples, report = tasks.read_file(task, file, skip_bad_rows, labels_required=not write)
        report.tell()
    else:
        examples = split_of(config, split, data_dir)
    predictor = predict.load(run, checkpoint, seed)
    encoded = predictor.encode(examples, file or split)
    labelled = encoded.labels is not None
    if not labelled and not write:
        raise InputError(f"--split={split}: has no labels; --write=FOLDER writes predictions in the official "
                         "format")
    if not labelled:
        note(f"{file or split}: has no labels, so no scores")
    outputs = predictor.outputs(encoded, f"scoring {file or split}")
    dev = None if labelled and split == "dev" and not file else predictor.dev
    scores = predictor.family.scores(outputs, encoded, examples, dev) if labelled else {}
    if write:
        predictor.family.write(Path(file).stem if file else split, outputs, encoded, examples,
                               Path(write).expanduser(), scores if dev is None else dev)
    scored = {"seeds": [records.read_run(each)[0].seed for each in records.runs_of(folder, seed)]} \
        if config.seeds else {}
    return _kept({"run": str(run), **scored, "split": file or split, "checkpoint": checkpoint,
                  "examples": len(examples), **scores}, output)


def dev_outputs(run: str, checkpoint: str = "best", seed: str = "best") -> tuple[np.ndarray, np.ndarray]:
    """What a run's model says of its dev examples, and their labels; arguments as of `predict.load`.

    Returns:
      [N, C] or what else its family puts out, and [N] or [N, C].
    """
    predictor = predict.load(run, checkpoint, seed)
    encoded = predictor.encode(split_of(records.read_run(Path(run).expanduser())[0]), "dev")
    return predictor.outputs(encoded, "answering dev"), encoded.labels


def evaluate_file(task: str, predictions: str, split: str = "dev", data_dir: str = "", file: str = "",
                  output: str = "", skip_bad_rows: bool = False, text_columns: Sequence[str] = (),
                  label_column: str = "", label_type: str = "classification") -> dict[str, Any]:
    """Scores anybody's predictions in the official format of a task, without a model.

    Label names that the task does not fix are those of the split and the predictions together.

    Args:
      task: its name.
      predictions: the file; every example of the split must have its prediction there.
      split, data_dir, file, output, skip_bad_rows: as of `evaluate`; the toy tasks need no files.
      text_columns, label_column, label_type: of `file`, for custom.

    Returns:
      {"predictions", "task", "split", "examples", metrics ...}.

    Raises:
      InputError: no such task, split or file, or predictions that do not fit it.
    """
    for flag, path in (("predictions", predictions), ("file", file)):
        if path and not Path(path).is_file():
            raise InputError(f"--{flag}={path}: no such file")
    config = Config.make(task=task, data_dir=data_dir, dev_file=str(Path(file).absolute()) if file else "",
                         skip_bad_rows=skip_bad_rows, text_columns=text_columns, label_column=label_column,
                         label_type=label_type)
    row = tasks.resolve(config)
    if not (file or row.generate or (data_dir and row.files) or (row.hub and row.hub.path)):
        raise InputError(f"--file is needed, the split that --predictions are of; {task} has none of its own")
    names = () if row.labels else families.make(row, config).label_names(Path(predictions))
    row, examples, report = tasks.load_split(config, "dev" if file else split, names)
    report.tell()
    scores = families.make(row, config).score_file(Path(predictions), examples)
    return _kept({"predictions": predictions, "task": task, "split": file or split, "examples": len(examples),
                  **scores}, output)


def split_of(config: Config, split: str = "dev", data_dir: str = "") -> Split:
    """A split of a run, as it was read.

    Args:
      config: of the run.
      split: its name.
      data_dir: where the task's files are now, if not where they were.

    Raises:
      InputError: the task has no such split here.
    """
    settings = {**config.to_json(), **({"data_dir": data_dir, "hub_dataset": ""} if data_dir else {})}
    _, splits, report = tasks.load(Config.from_json(settings))
    report.tell()
    if split not in splits:
        raise InputError(f"--split={split}: {config.task} has no such split here; valid: {', '.join(splits)}")
    return splits[split]


def _kept(result: dict[str, Any], output: str) -> dict[str, Any]:
    """The same, written to a file too where one is named."""
    if output:
        records.write_json(records.writable(output), result)
    return result
