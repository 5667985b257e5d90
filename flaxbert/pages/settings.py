"""The settings of runs: those that differ from the default, the command that they make, what sets runs apart."""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flaxbert import tasks
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.pages.arms import Arm
from flaxbert.pages.document import commands
from flaxbert.pages.html import Html, Part
from flaxbert.pages.tables import NONE, wide

FIELDS = {f.name: f for f in dataclasses.fields(Config)}
_CHOSEN = ("task", "model", "recipe")  # what the defaults of others go by
_PLACES = ("output_dir", "resume", "overwrite")  # they say nothing of what was trained


def defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings are where nobody gives them, with this task, model and recipe."""
    plain = dataclasses.asdict(Config())
    chosen = {name: settings[name] for name in _CHOSEN if settings.get(name)}
    try:
        found = tasks.settled(Config.make(**chosen)).to_json()
    except InputError:  # of another version, or the task of a file that is not here
        found = Config().to_json()
    return {**found, **{name: plain[name] for name in _CHOSEN}}


def changed(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Setting -> (value, default) where they differ. One that this version does not know differs."""
    usual = defaults(settings)
    return {name: (value, usual.get(name)) for name, value in settings.items()
            if name not in _PLACES and (name not in usual or value != usual[name] or name in ("task", "model"))}


def command(settings: Mapping[str, Any]) -> Html:
    """The command that trains it again."""
    what = "pretrain" if settings["task"] == "pretrain" else "finetune"
    given = {name: value for name, (value, _) in changed(settings).items()
             if name in FIELDS and value is not None and (what, name) != ("pretrain", "task")}
    flags = [shlex.quote(f"--{name}={_flag(value)}") for name, value in given.items()]
    return commands([["flaxbert", what, *flags]])


def shown(value: Any) -> str:
    """A value in a table."""
    return NONE if value in (None, "", [], ()) else f"{value:.10g}" if isinstance(value, float) else _flag(value)


def _flag(value: Any) -> str:
    """A value as a flag takes it."""
    if isinstance(value, list | tuple):
        whole = len(value) > 2 and all(isinstance(each, int) for each in value)
        return f"{value[0]}:{value[-1]}" if whole and [*value] == [*range(value[0], value[-1] + 1)] else \
            ",".join(map(_flag, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(settings: Mapping[str, Any]) -> Html:
    """What differs from the default, beside it."""
    return wide(["setting", "value", "default"],
                [[Html("code", name), Html("strong", shown(value)), shown(default)]
                 for name, (value, default) in changed(settings).items()], "settings that are not the default",
                False)


def rest(settings: Mapping[str, Any]) -> Html:
    """All others."""
    left = [name for name in settings if name not in changed(settings)]
    return wide(["setting", "value", "what it is"], [[Html("code", name), shown(settings[name]), _help(name)]
                                                     for name in left], "settings at their default", False)


def _help(name: str) -> str:
    return FIELDS[name].metadata["help"] if name in FIELDS else ""


def differing(arms: Sequence[Arm]) -> list[str]:
    """The settings in which these differ; not where they were written, and not their seeds."""
    names: Iterable[str] = dict.fromkeys(name for arm in arms for name in arm.first.settings)
    left_out = {*_PLACES, "seed", "seeds", "seeds_per_program"}
    return [name for name in names if name not in left_out
            and len({repr(arm.first.settings.get(name)) for arm in arms}) > 1]


def side_by_side(arms: Sequence[Arm], names: Sequence[Part]) -> Html:
    """What differs, the longer list from top to bottom.

    Args:
      arms: two or more.
      names: what to call each.
    """
    settings = differing(arms)
    values = [[shown(arm.first.settings.get(setting)) for setting in settings] for arm in arms]
    codes = [Html("code", setting) for setting in settings]
    if len(settings) > len(arms):
        return wide(["setting", *names], [[code, *row] for code, *row in zip(codes, *values, strict=True)],
                    "settings that differ", False)
    return wide(["", *codes], [[name, *row] for name, row in zip(names, values, strict=True)],
                "settings that differ", False)
