"""Files that a page is made from. What cannot be read is told in a line that names the file."""

import json
from pathlib import Path
from typing import Any

from flaxbert.errors import InputError


def content(file: Path, *needed: str) -> dict[str, Any]:
    """A file of one JSON object.

    Raises:
      InputError: it is missing, torn, or lacks something that is needed.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: is missing") from None
    except ValueError as error:
        raise InputError(f"{file}: cannot be read ({error}); was it cut off?") from None
    lacking = [name for name in needed if not isinstance(found, dict) or name not in found]
    if lacking or not isinstance(found, dict):
        raise InputError(f"{file}: lacks {lacking[0]}" if lacking else f"{file}: should hold one JSON object")
    return found


def lines(file: Path, *needed: str) -> list[dict[str, Any]]:
    """The rows of a file with a JSON object a line; none without it. A last line that a kill tore is passed over.

    Raises:
      InputError: a line that is no such row.
    """
    texts = file.read_text("utf-8", errors="replace").splitlines() if file.exists() else []
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            rows.append(json.loads(text))
            if any(name not in rows[-1] for name in needed):
                raise InputError(f"{file}, line {number}: no row of a log; delete the line")
        except (json.JSONDecodeError, TypeError):
            if number < len(texts):
                raise InputError(f"{file}, line {number}: cannot be read; delete the line") from None
    return rows


def text(file: Path) -> str:
    """A file of text.

    Raises:
      InputError: it is missing, or something else.
    """
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise InputError(f"{file}: is missing; the command that wrote the rest of the folder writes it at its "
                         "end") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not text ({error.reason})") from None
