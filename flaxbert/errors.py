"""What a user did wrong, in one line.

Everything that a user can put right (a flag, a file, a row, a folder) is raised as an `InputError`
whose text names the thing and says what would be right. The command line prints that line and exits
with 2; Python callers see an ordinary `ValueError`.
"""

import sys
from typing import Any


class InputError(ValueError):
    """Bad input: the message is one line that names the flag, file or row and what would be right."""


def one_of(value: str, valid, what: str) -> str:
    """Returns `value` if it is in `valid`, else raises an `InputError` that lists the valid ones."""
    if value not in valid:
        raise InputError(f"{what}={value}: unknown; valid: {', '.join(map(str, valid))}")
    return value


def refuse(problems: list[str], where: Any) -> None:
    """Raises all problems, if there are any, as one line; of very many, the first and the last twenty."""
    if len(problems) > 41:
        problems = [*problems[:20], f"... {len(problems) - 40} more ...", *problems[-20:]]
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}")


def note(text: str) -> None:
    """One line for the person who watches, on standard error."""
    print(f"flaxbert: {text}", file=sys.stderr, flush=True)


class RunFailed(RuntimeError):
    """A run that could not go on (its loss was not finite); the message is one line."""
