"""Splits from the Hugging Face hub, or from a local folder of the same columns, through `datasets`."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flaxbert.errors import InputError
from flaxbert.tasks.base import Hub, Task

HINT = "local files: --data_dir=FOLDER with the official files, or --hub_dataset=FOLDER with parquet or JSONL"


def _failures() -> tuple[type[Exception], ...]:
    """What `datasets` raises when it cannot deliver: no network, no such name, no permission, bad files."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    # RuntimeError: a dataset that needs its own script; ValueError: no such configuration, or a folder that
    # save_to_disk wrote; OSError takes in ConnectionError, FileNotFoundError and time-outs.
    return DatasetsError, HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError, RuntimeError


@contextmanager
def _one_line_is_enough() -> Iterator[None]:
    """Keeps the hub client from warning of each of its retries; what failed in the end is raised anyway."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _load(hub: Hub, override: str) -> tuple[object, str]:
    """The DatasetDict, and what to call it in messages.

    Args:
      hub: where the task is by default.
      override: `--hub_dataset`, or "". A folder has no configurations; another dataset on the hub may have
        one of the same name, or none.
    """
    import datasets
    path, config, revision = (override, None, None) if override else (hub.path, hub.config, hub.revision)
    folder = bool(override) and Path(override).is_dir()
    try:
        with _one_line_is_enough():
            if override and not folder and hub.config in datasets.get_dataset_config_names(override):
                config = hub.config
            loaded = datasets.load_dataset(path, config, revision=revision)
        return loaded, path + (f" ({config})" if config else "")
    except _failures() as error:
        reason = " ".join(str(error).split())[:200].rstrip(". ") or type(error).__name__
        asked = f"dataset {path!r}" + (f", configuration {config!r}" if config else "")
        asked = f"asked `datasets` for the folder {path}" if folder else f"asked the Hugging Face hub for {asked}"
        raise InputError(f"{asked} and got: {reason}. Give {HINT}") from error


def read_hub(task: Task, convert: Callable[[Task, Any, str, bool], Any], override: str = "",
             skip_bad_rows: bool = False) -> dict[str, Any]:
    """All splits of a task that its dataset has, under our names for them.

    Args:
      task: tells dataset and columns.
      convert: `from_hub` of the task's reader: (task, split, where, skip_bad_rows) -> its records.
      override: another dataset's name, or a local folder, with the same columns.
      skip_bad_rows: count rows that cannot be read in place of stopping.

    Raises:
      InputError: no network, no such dataset, a missing split or column.
    """
    hub = task.hub
    dataset, name = _load(hub, override)
    missing = [theirs for ours, theirs in hub.splits.items() if ours in ("train", "dev") and theirs not in dataset]
    if missing:
        raise InputError(f"{name}: missing split {', '.join(missing)}; found: {', '.join(dataset)}")
    records = {}
    for ours, theirs in hub.splits.items():
        if theirs not in dataset:
            continue
        split, where = dataset[theirs], f"{name}, split {theirs}"
        needed = [*hub.texts, *([hub.label] if hub.label and ours in ("train", "dev") else [])]
        absent = [column for column in needed if column not in split.column_names]
        if absent:
            raise InputError(f"{where}: missing column {', '.join(absent)}; "
                             f"found: {', '.join(split.column_names)}")
        records[ours] = convert(task, split, where, skip_bad_rows)
    return records
