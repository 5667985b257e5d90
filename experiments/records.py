"""What a study keeps: a row a measurement, appended as soon as it is there, and where it was measured.

The folder of a record: results.jsonl, summary.json, and what the study's report adds (figure.png, table.md).
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from flaxbert.errors import InputError
from flaxbert.records import versions, write_json

ROOT = Path(__file__).parents[1]
# What two parts of one record must have in common, beside the settings that decide what is measured.
_SAME = ("study", "preset", "device", "devices", "cores")


class PointFailed(RuntimeError):
    """One point could not be measured, the others may be; the message is one line."""


def device() -> dict[str, Any]:
    """The device that measurements run on: name, how many, processor cores of this process, platform."""
    first = jax.devices()[0]
    name = _processor() if first.platform == "cpu" else first.device_kind
    return {"device": name, "devices": jax.device_count(), "platform": first.platform,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


def environment() -> dict[str, Any]:
    """The device, and the versions of everything that decides a measurement."""
    found = {"python": platform.python_version(), **versions()}
    for name in ("torch", "accelerate"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**device(), "system": platform.platform(), "versions": found}


_NO_CODE = (":!experiments/*/records/*", ":!*.md")  # a study writes these itself


def commit() -> str | None:
    """The git commit of this tree, with `-dirty` where tracked code was changed; None outside git."""
    def told(*command: str) -> str:
        found = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True)
        return found.stdout.strip()
    try:
        changed = told("status", "--porcelain", "--untracked-files=no", "--", ".", *_NO_CODE)
        return told("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """The processor's name; `platform` knows it on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Records:
    """One record of one study; opened again, it goes on where it was.

    Args:
      folder: made if need be.
      about: what summary.json says; `study`, `preset` and `settings` are needed.
      choices: settings that may differ between calls: a record has every value of their lists, their largest
        numbers, and of anything else the last.

    Raises:
      InputError: the folder holds the record of another study, preset, device or setting.
    """

    def __init__(self, folder: Path, about: dict[str, Any], choices: Collection[str] = ()):
        self.folder = folder
        before = _read_summary(folder)
        earlier = before.get("settings") or {}
        self.about = {**about, **environment(), "commit": commit(),
                      "settings": _joined(earlier, about["settings"], choices)}
        differing = [f"{name} {before[name]}, not {self.about[name]}" for name in _SAME
                     if name in before and before[name] != self.about[name]]
        differing += differences(earlier, about["settings"], choices)
        if differing:
            raise InputError(f"--output={folder}: holds a record of {'; '.join(differing)}; give another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = read_rows(folder / "results.jsonl")
        # A row torn by a kill is dropped, so that the next one begins on its own line.
        part = folder / "results.part"
        part.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        part.replace(folder / "results.jsonl")
        self._commit = self.about["commit"]
        self._command = " ".join(["python -m experiments.run", *sys.argv[1:]]).replace(f"{ROOT}/", "")
        self.about |= {name: before[name] for name in ("started", "date") if name in before}
        self.about["command"] = before.get("command", self._command)
        self._tell()
        self._summarise("unfinished", None)

    def _tell(self) -> None:
        """When its rows were measured, the first and the last day, and with which code: one commit, or a list."""
        days = sorted({row["time"][:10] for row in self.rows if "time" in row})
        if days:
            self.about["date"] = " to ".join(dict.fromkeys((days[0], days[-1])))
        commits = list(dict.fromkeys(row["commit"] for row in self.rows))
        if commits:
            self.about["commit"] = commits[0] if len(commits) == 1 else commits

    def has(self, point: dict[str, Any]) -> bool:
        """Whether a point has been measured; one that failed has not."""
        return any(row["point"] == point and "error" not in row for row in self.rows)

    def append(self, point: dict[str, Any], found: dict[str, Any]) -> None:
        """Keeps the row of one point; that of an earlier failure of it stays, and no longer counts."""
        row = json.loads(json.dumps({"point": point, **found, "commit": self._commit}, allow_nan=False))
        self.rows.append(row)
        self._tell()
        if self._command not in self.about["command"].split(" && "):
            self.about["command"] += f" && {self._command}"
        with (self.folder / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The rows that hold a measurement."""
        return [row for row in self.rows if "error" not in row]

    def failed(self) -> list[dict[str, Any]]:
        """The points without a measurement, each once, with the last error."""
        errors = {json.dumps(row["point"]): row for row in self.rows if "error" in row}
        return [row for row in errors.values() if not self.has(row["point"])]

    def finish(self, findings: dict[str, Any]) -> None:
        """Writes summary.json for good; `findings` are the study's own."""
        self._summarise("failed points" if self.failed() else "finished", findings)

    def _summarise(self, status: str, findings: dict[str, Any] | None) -> None:
        write_json(self.folder / "summary.json", {
            **self.about, "status": status, "measured": len(self.measured),
            "failed": [{**row["point"], "error": row["error"]} for row in self.failed()], "findings": findings})


def write_between_marks(file: Path, text: str) -> None:
    """Replaces what stands between the lines `<!-- record -->` and `<!-- end of record -->` of a file.

    Raises:
      InputError: the file has no such lines.
    """
    begin, end = "<!-- record -->\n", "<!-- end of record -->\n"
    head, mark, rest = file.read_text().partition(begin)
    _, closing, tail = rest.partition(end)
    if not (mark and closing):
        raise InputError(f"{file}: has no lines {begin.strip()} and {end.strip()} to write between")
    file.write_text(f"{head}{begin}\n{text.strip()}\n\n{end}{tail}")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """All whole rows; a torn last line is passed over."""
    rows = []
    try:
        for line in file.read_text().splitlines():
            rows.append(json.loads(line))
    except (FileNotFoundError, json.JSONDecodeError):
        pass
    return rows


def differences(before: Mapping[str, Any], now: Mapping[str, Any], choices: Collection[str]) -> list[str]:
    """What keeps settings from going on with a record: those that decide what is measured, as flags.

    Args:
      before: of the record.
      now: of the call.
      choices: those that may differ, as of `Records`.
    """
    now = json.loads(json.dumps(now))
    return [f"--{name}={_as_flag(before[name])}, not {_as_flag(value) or 'none'}" for name, value in now.items()
            if name in before and name not in choices and before[name] != value]


def _joined(before: Mapping[str, Any], now: Mapping[str, Any], choices: Collection[str]) -> dict[str, Any]:
    """The settings of all calls; `choices` as of `Records`."""
    joined = json.loads(json.dumps({**before, **now}))
    for name in before.keys() & now.keys() & {*choices}:
        if isinstance(before[name], list):
            joined[name] = list(dict.fromkeys([*before[name], *joined[name]]))
        elif isinstance(before[name], int | float):
            joined[name] = max(before[name], joined[name])
    return joined


def _as_flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value}"


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "summary.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        if (folder / "results.jsonl").exists() or not folder.is_dir() or not any(folder.iterdir()):
            return {}
    raise InputError(f"--output={folder}: not empty and not a record; give another folder")
