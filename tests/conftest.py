"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def outside() -> Path:
    """The folder with `data/` and `models/` that is no part of the project; skips the test where it is not."""
    folder = os.environ.get("FLAXBERT_DATA")
    if not folder:
        pytest.skip("FLAXBERT_DATA is not set: no real data or weights to test on")
    return Path(folder)
