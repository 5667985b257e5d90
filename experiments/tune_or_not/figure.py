"""The picture of a record: how far features are ahead of fine-tuning on each task, here and in the paper."""

import statistics
from pathlib import Path
from typing import Any

from experiments.features import Line
from experiments.features import draw as draw_lines


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """A line a task.

    Args:
      about: of the record.
      rows: from `table.by_task`.
      path: of the PNG.
    """
    draw_lines(about, "A mix of all layers with a BiLSTM, by task", "Peters 2019 [R], BERT-base",
               [Line(f"{row['task']}  ({row['metric']})",
                     [score - statistics.fmean(row["fine_tuned"]) for score in row["features"]],
                     row["published_ahead"]) for row in rows], path)
