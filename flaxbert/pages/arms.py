"""Runs, and those that differ in their seed alone: an arm of a comparison."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxbert.config import Config
from flaxbert.metrics import LOWER_IS_BETTER


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      folder: of it.
      name: what to call it among the others.
      about: the content of config.json.
      result: that of result.json; None where it has not come to an end.
      rows: of metrics.jsonl, its own.
    """

    folder: Path
    name: str
    about: dict[str, Any]
    result: dict[str, Any] | None
    rows: list[dict[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        return self.about["settings"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def task(self) -> str:
        return self.about["task"]["name"]

    @property
    def metric(self) -> str:
        """The one that chooses the best checkpoint."""
        return (self.result or {}).get("main_metric") or self.about["task"]["metrics"][0]

    @property
    def lowest(self) -> bool:
        """Whether its lowest score is the best one."""
        return self.metric in LOWER_IS_BETTER

    @property
    def status(self) -> str:
        """finished, failed, interrupted; unfinished where it has not written a result."""
        return self.result["status"] if self.result else "unfinished"

    @property
    def last_step(self) -> int:
        return max((row["step"] for row in self.rows), default=0)

    def of(self, split: str) -> list[dict[str, Any]]:
        """Its rows of a split."""
        return [row for row in self.rows if row["split"] == split]

    def score(self, which: str, split: str = "dev", metric: str = "") -> float | None:
        """A score of result.json: after the last step (metrics), or of the best checkpoint (best)."""
        return ((self.result or {}).get(which) or {}).get(split, {}).get(metric or self.metric)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone; often one.

    Attributes:
      name: what to call them.
      folder: of all of them.
      runs: those that have begun.
      lacking: seeds that were to be trained and have not begun.
      result: of the folder of many seeds, the content of result.json.
    """

    name: str
    folder: Path
    runs: tuple[Run, ...]
    lacking: tuple[int, ...] = ()
    result: dict[str, Any] | None = None

    @property
    def first(self) -> Run:
        """For what all its runs have in common."""
        return self.runs[0]

    @property
    def settings(self) -> dict[str, Any]:
        """What its runs have in common."""
        return {key: value for key, value in self.first.settings.items()
                if all(run.settings.get(key) == value for run in self.runs)}



def grouped(arms: Sequence[Arm], name: str = "") -> list[Arm]:
    """The same with single runs that differ in their seed alone put together, as in a folder of seeds.

    Args:
      arms: from folders as they are.
      name: of an arm that takes in all of them.
    """
    groups: dict[Any, list[Arm]] = {}
    for number, arm in enumerate(arms):
        key = _recipe(arm.first.settings) if len(arm.runs) == 1 and arm.first.folder == arm.folder else number
        groups.setdefault(key, []).append(arm)
    found = []
    for group in groups.values():
        runs = sorted((run for arm in group for run in arm.runs), key=lambda run: run.seed)
        if len(group) == 1 or len({run.seed for run in runs}) < len(runs):  # a repetition is no other seed
            found += group
        else:
            called = name if name and len(groups) == 1 else f"{group[0].name} and {len(group) - 1} more"
            found.append(Arm(called, group[0].folder.parent, tuple(runs)))
    return found


def _recipe(settings: Mapping[str, Any]) -> str:
    """The settings that decide what comes of a run, without its seed, as a key."""
    free = {f.name for f in dataclasses.fields(Config) if f.metadata["resumable"]} | {"seed"}
    return json.dumps({key: value for key, value in settings.items() if key not in free}, sort_keys=True)


def name_of(folder: Path) -> str:
    """The name of a folder, also where it is given as a dot."""
    return Path(os.path.abspath(folder)).name


def distinct(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of these paths by which they can be told apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    longest = max(map(len, parts))
    length = next(n for n in range(1, longest + 1) if n == longest or len({each[-n:] for each in parts}) == len(
        {*parts}))
    return ["/".join(each[-length:]) for each in parts]
