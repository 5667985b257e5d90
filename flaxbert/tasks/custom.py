"""The user's own data: `--task=custom` with the columns named by flags."""

import dataclasses

from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.tasks.base import HUB_SPLITS, Hub, Layout, Task

METRICS = {"classification": ("accuracy", "f1"), "multi_label": ("f1", "exact_match", "precision", "recall"),
           "regression": ("pearson", "spearman")}

TASK = Task("custom", "classification", "your own files, see below", METRICS["classification"], usage=(
    "--train_file --dev_file [--test_file] --text_columns=A[,B] --label_column",
    f"TSV, CSV or JSONL, by the file's ending; --label_type={' | '.join(METRICS)}",
    "several labels of one row: a JSON list, or text with | between",
    *(f"metrics of {kind}: {', '.join(names)}" for kind, names in METRICS.items())))
TASKS = (TASK,)


def resolve(config: Config) -> Task:
    """The row of the table that the flags describe; its label names are yet to be read from the data.

    Raises:
      InputError: a flag is missing or does not fit.
    """
    columns = config.text_columns
    if len(columns) not in (1, 2):
        raise InputError(f"--text_columns={','.join(columns)}: --task=custom needs the name of one text column, "
                         "or of two with a comma between")
    if not config.label_column:
        raise InputError("--label_column: --task=custom needs the name of the column with the labels")
    if config.label_column in columns or len(set(columns)) < len(columns):
        raise InputError(f"--text_columns={','.join(columns)} --label_column={config.label_column}: "
                         "the columns must be different ones")
    return dataclasses.replace(
        TASK, kind=config.label_type, metrics=METRICS[config.label_type], pair=len(columns) == 2,
        layouts=(Layout(columns, config.label_column, "id"),),
        hub=Hub(config.hub_dataset, None, columns, config.label_column, HUB_SPLITS, "id"))
