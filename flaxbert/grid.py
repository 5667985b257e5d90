"""The grid of a sweep: settings x values, the cells that they make, and which of them one program trains."""

import dataclasses
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flaxbert import optimizers, strategies, tasks
from flaxbert.config import Config
from flaxbert.errors import InputError, one_of
from flaxbert.seeds import VARIED

LONGEST_NAME = 200  # of a cell's folder; file systems allow 255 bytes

_FIELDS = {f.name: f.type for f in dataclasses.fields(Config)}
# Settings that no grid may be over, and why.
_NOT_SWEPT = {
    **dict.fromkeys(("seed", "seeds"), "give --seeds=1:5, or 1,2,5"),
    **dict.fromkeys(("output_dir", "resume", "overwrite"), "each cell has a folder of its own in --output_dir"),
    **dict.fromkeys(("distributed", "coordinator_address", "num_processes", "process_id", "compilation_cache"),
                    "one process has one; give it as a flag"),
}
# Type of a setting -> its value as text -> the value; ValueError or KeyError where it is none.
_READERS = {bool: lambda text: {"true": True, "false": False}[text.lower()], int: int, float: float,
            float | None: lambda text: None if text == "none" else float(text),
            tuple[str, ...]: lambda text: tuple(text.split(",")),
            tuple[float, ...]: lambda text: tuple(map(float, text.split(",")))}


class Point(NamedTuple):
    """One cell of a grid.

    Attributes:
      name: of its folder.
      values: setting -> value, of the settings that the grid is over.
      config: all its settings, with `seeds`.
    """

    name: str
    values: dict[str, Any]
    config: Config


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """What --grid says: NAME=VALUE,VALUE,... each. Values that hold commas themselves are separated by semicolons.

    A value that is none of its setting's type is left as text; `Config.make` says what would be right.

    Raises:
      InputError: another form, no such setting, one twice, or an empty value.
    """
    grid: dict[str, list[Any]] = {}
    for each in texts:
        name, equals, values = each.partition("=")
        if not equals:
            raise InputError(f"--grid={each}: write --grid=NAME=VALUE,VALUE,...")
        one_of(name, _FIELDS, "--grid")
        if name in grid:
            raise InputError(f"--grid={name}: more than once; write all its values in one")
        parts = values.split(";" if ";" in values else ",")
        if not all(parts):
            raise InputError(f"--grid={each}: {'a value is empty' if values else 'no values'}")
        grid[name] = [_typed(_FIELDS[name], part) for part in parts]
    return grid


def _typed(kind: Any, text: str) -> Any:
    try:
        return _READERS.get(kind, str)(text)
    except (ValueError, KeyError):
        return text


def points_of(grid: Mapping[str, Sequence[Any]], given: Mapping[str, Any]) -> list[Point]:
    """The cells of a grid, its first setting's first value first; arguments and errors as of `sweep.sweep`.

    All that can be checked without data and weights is: nobody wants to hear of it after half of the runs.
    """
    if not grid:
        raise InputError("--grid: no setting to sweep; write --grid=NAME=VALUE,VALUE,...")
    for name, values in grid.items():
        one_of(name, _FIELDS, "--grid")
        if name in _NOT_SWEPT:
            raise InputError(f"--grid={name}: not over this one; {_NOT_SWEPT[name]}")
        if name in given:
            raise InputError(f"--grid={name}: not together with --{name}")
        if not len(values):
            raise InputError(f"--grid={name}: no values")
    points = []
    for values in itertools.product(*grid.values()):
        config = Config.make(**given, **dict(zip(grid, values, strict=True)))
        own = {name: getattr(config, name) for name in grid}
        if tasks.resolve(config).kind == "pretraining":
            raise InputError(f"--task={config.task}: a sweep fine-tunes; for one pre-training run after the other "
                             "there is `flaxbert pretrain`")
        one_of(config.strategy, tuple(strategies.STRATEGIES), "--strategy")
        optimizers.check(config)
        config = tasks.settled(config.absolute())
        config = dataclasses.replace(config, seeds=config.seeds or (config.seed,), seed=Config.seed)
        points.append(Point(_name(own), own, config))
    for name, count in Counter(point.name for point in points).items():
        if count > 1:
            raise InputError(f"--grid: {name} more than once")
    return points


def text(value: Any) -> str:
    """A setting's value as a flag has it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def _name(values: Mapping[str, Any]) -> str:
    """What a cell's folder is called; with a checksum where the values alone are no good name."""
    name = ",".join(f"{setting}={text(value)}" for setting, value in values.items())
    plain = re.sub(r"[^\w.,=+-]", "-", name)[:LONGEST_NAME]
    return name if plain == name else f"{plain}-{zlib.crc32(name.encode()):08x}"


def groups_of(points: Sequence[Point]) -> list[list[Point]]:
    """Those that the same programs train."""
    found: dict[Config, list[Point]] = {}
    for point in points:
        found.setdefault(dataclasses.replace(point.config, **dict.fromkeys(VARIED)), []).append(point)
    return list(found.values())
