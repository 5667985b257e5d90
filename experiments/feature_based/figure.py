"""The picture of a record: how far a BiLSTM on each set of layers is ahead of fine-tuning, here and there."""

from pathlib import Path
from typing import Any

from experiments.features import Line
from experiments.features import draw as draw_lines


def draw(about: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """A line a row of the table; nothing where fine-tuning has not been measured.

    Args:
      about: of the record.
      rows: from `table.by_layers`.
      path: of the PNG.
    """
    found = [Line(row["how"], [score - row["mean"] - row["behind"] for score in row["scores"]],
                  None if row["published_behind"] is None else -row["published_behind"])
             for row in rows if row["behind"] is not None]
    draw_lines(about, f"{about['settings']['token_task']}: a BiLSTM on layers of the frozen model",
               "Devlin 2018 [S], BERT-base", found, path)
