"""Rows of a stability record, which hold the predictions of every seed: what need not be trained again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records import ROOT
from flaxbert.errors import InputError

POINT = ("task", "epochs", "bias_correction", "rate", "seeds")


def locate(record: str) -> Path | None:
    """The folder of a record, given as it is or from the repository's root; None where there is none."""
    return next((path for path in (Path(record).expanduser(), ROOT / record)
                 if (path / "results.jsonl").is_file()), None)


def arms(folder: Path) -> list[dict[str, Any]]:
    """The rows of the arms, the later one of two of one point.

    Raises:
      InputError: not a record of the stability study.
    """
    try:
        rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        mine = [row for row in rows if "error" not in row and row["point"]["part"] == "arms"]
        found = {json.dumps(point(row)): row for row in mine if row["labels"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"--record={folder}: not a record of the stability study ({type(error).__name__}: "
                         f"{error}); give one, or --record= to train") from None
    return list(found.values())


def point(row: Mapping[str, Any]) -> dict[str, Any]:
    """The point of a row, as it is called here."""
    return {name: row["point"][name] for name in POINT}


def cited(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Where a row was read: the record, the commit that measured it, and when."""
    inside = folder.resolve().is_relative_to(ROOT)
    return {"record": str(folder.resolve().relative_to(ROOT) if inside else folder), "commit": row["commit"],
            "measured": row.get("time", "")}
