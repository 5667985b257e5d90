"""Data and weights that are no part of the project: they lie in the folder that FLAXBERT_DATA names."""

import os
from pathlib import Path


def outside(name: str = "") -> Path | None:
    """The path `name` under FLAXBERT_DATA; None where that is not set or lacks it."""
    folder = os.environ.get("FLAXBERT_DATA")
    path = Path(folder or ".", name).absolute()
    return path if folder and path.exists() else None
