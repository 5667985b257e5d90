"""The run directory: what other programs may rely on (layout in README.md).

config.json, metrics.jsonl, result.json, TensorBoard events, and the folders of other files.
"""

import dataclasses
import functools
import importlib.metadata
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxbert.config import Config
from flaxbert.errors import InputError

PACKAGES = ("flaxbert", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    return dict(_versions())


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Read once: a package's metadata are parsed as a whole each time, and a run asks several times."""
    return tuple((name, importlib.metadata.version(name)) for name in PACKAGES)


def read_run(path: str | Path) -> tuple[Config, dict[str, Any]]:
    """The settings of a run and the whole of its config.json.

    Raises:
      InputError: no run there, or one whose config.json cannot be read.
    """
    file = Path(path) / "config.json"
    try:
        about = json.loads(file.read_text())
        if "settings" not in about:
            raise InputError(f"{path}: not one of our runs; give the folder that finetune wrote")
        return settings_of(about, file), about
    except FileNotFoundError:
        raise InputError(f"{path}: no run there (no config.json); give the folder that finetune wrote") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not a run's settings ({type(error).__name__}: {error})") from None


def settings_of(about: Mapping[str, Any], file: str | Path, settings: Mapping[str, Any] | None = None) -> Config:
    """The settings in the content of a file of ours; raises `InputError` where this version knows them not.

    Args:
      about: the content, with `settings` and `versions`.
      file: told in the message.
      settings: in place of those.
    """
    try:
        return Config.from_json(dict(about["settings"] if settings is None else settings))
    except InputError as error:
        ours, theirs = versions()["flaxbert"], (about.get("versions") or {}).get("flaxbert", "another version")
        reason = str(error).partition("; valid: ")[0]
        raise InputError(f"{file}: written by flaxbert {theirs}, which this one, {ours}, cannot read ({reason}); "
                         "read it with that version, or train anew") from None


def is_run(path: Path) -> bool:
    """Whether a folder is one of our run directories."""
    try:
        return "settings" in json.loads((path / "config.json").read_text())
    except (OSError, json.JSONDecodeError, TypeError):
        return False


def claim(path: Path, config: Config) -> str:
    """Makes sure that a run may be written to `path`, and makes the folder.

    Returns:
      what is there: "new", "started" or "finished"; "replaced" if it is to be deleted, which is left to
      `clear`, for when nothing else can be wrong any more.

    Raises:
      InputError: the folder holds something else, another configuration, or a run and neither --resume nor
        --overwrite was given.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"--output_dir={path}: is a file, not one of our runs; choose another folder")
    make(path, "output_dir")
    if not any(path.iterdir()):
        return "new"
    if not is_run(path):
        raise InputError(f"--output_dir={path}: not empty and not one of our runs; choose another folder")
    if config.overwrite and not config.resume:
        return "replaced"
    if not config.resume:
        raise InputError(f"--output_dir={path}: holds a run; add --resume to go on with it, --overwrite to "
                         "delete it, or choose another folder")
    other, _ = read_run(path)
    if {*other.seeds} <= {*config.seeds} and other.seeds:
        other = dataclasses.replace(other, seeds=config.seeds)  # more of them may come
    changes = other.differences(config)
    if changes:
        raise InputError(f"--resume: {path} was started with another configuration ({'; '.join(changes)}); "
                         "give the same flags, or another --output_dir")
    return "finished" if is_finished(path, config) else "started"


def is_finished(path: Path, config: Config) -> bool:
    """Whether a run, or those of all its seeds, has come to its end."""
    result = read_result(path)
    return bool(result) and result["status"] == "finished" and {*config.seeds} <= {*result.get("seeds", ())}


def of_seed(folder: Path, seed: int) -> Path:
    """The run of one seed, in the folder of all of them."""
    return folder / f"seed_{seed}"


def runs_of(folder: Path, seed: str = "best") -> list[Path]:
    """The runs that are meant by a folder: itself, or of one with many seeds those that are chosen.

    Args:
      folder: a run, a folder of many seeds, or anything else that a model is loaded from.
      seed: best (by dev), ensemble (all whose loss was finite), or a number.

    Raises:
      InputError: no such seed, none that is finished, or a choice where there is one run alone.
    """
    config = read_run(folder)[0] if is_run(folder) else None
    if config is None or not config.seeds:
        if seed != "best":
            raise InputError(f"--seed={seed}: {folder} does not hold the runs of many seeds; leave it out")
        return [folder]
    results = {each: read_result(of_seed(folder, each)) for each in config.seeds}
    finished = [each for each, result in results.items() if result and result["status"] == "finished"]
    if seed == "ensemble" and finished:
        return [of_seed(folder, each) for each in finished]
    if seed == "best" and finished:
        chosen = (read_result(folder) or {}).get("best_seed")
        if chosen is None or not is_finished(folder, config):
            raise InputError(f"{folder}: its seeds are not all finished; --seed=NUMBER takes one of "
                             f"{', '.join(map(str, finished))}, or go on with --resume")
        return [of_seed(folder, chosen)]
    if not finished:
        raise InputError(f"{folder}: none of its seeds is finished; go on with --resume")
    if not (seed.isdecimal() and int(seed) in finished):
        raise InputError(f"--seed={seed}: {folder} has no such finished run; valid: best, ensemble, "
                         f"{', '.join(map(str, finished))}")
    return [of_seed(folder, int(seed))]


def clear(path: Path) -> None:
    """Deletes all that a run's folder holds."""
    # What says that it is a run goes last: a kill on the way leaves a run.
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == "config.json"):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def read_result(path: Path) -> dict[str, Any] | None:
    """The run's result.json, None where there is none yet."""
    try:
        return json.loads((path / "result.json").read_text())
    except FileNotFoundError:
        return None


def writable(path: str) -> Path:
    """A file to write, in a folder that is there."""
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def make(folder: Path, flag: str) -> None:
    """Makes a folder where there is none.

    Args:
      folder: its path.
      flag: that named it.

    Raises:
      InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--{flag}={folder}: cannot be written ({error.strerror})") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file whole or not at all; a number that JSON lacks becomes null."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")
    part.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Metrics:
    """metrics.jsonl: one object a line, flushed, exactly one a (seed, step, split).

    Args:
      folder: where it is.
      steps: seed -> the step that it goes on from; its rows after that, and a torn last line, are dropped.
      write: False in all processes of a pod but one, which keeps the rows to itself.
    """

    def __init__(self, folder: Path, steps: Mapping[int, int], write: bool):
        file = folder / "metrics.jsonl"
        self.rows = [row for row in read_metrics(folder) if row["step"] <= steps.get(row["seed"], row["step"])]
        self._file = None
        if not write:
            return
        part = file.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        part.replace(file)
        self._file = file.open("a", buffering=1)

    def write(self, row: dict[str, Any]) -> dict[str, Any]:
        """Appends one row, and returns it as it is there; keys seed, step and split are needed."""
        row = _plain(row)
        self.rows.append(row)
        if self._file:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
        return row

    def close(self) -> None:
        """Flushes and closes it."""
        if self._file:
            self._file.close()


class Events:
    """The same rows of one run for TensorBoard.

    Args:
      run: the run's directory.
      step: where the run goes on from.
      write: False: nothing is written.
    """

    def __init__(self, run: Path, step: int, write: bool):
        self._writer = None
        if write:
            from tensorboardX import SummaryWriter
            self._writer = SummaryWriter(str(run), purge_step=step + 1 if step else None)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds the numbers of a row of `Metrics`."""
        for name, value in row.items() if self._writer else ():
            if isinstance(value, int | float) and name not in ("step", "seed"):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Flushes and closes it."""
        if self._writer:
            self._writer.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a torn last line, left by a killed run, is passed over."""
    rows = []
    try:
        for line in (run / "metrics.jsonl").read_text().splitlines():
            rows.append(json.loads(line))
    except (FileNotFoundError, json.JSONDecodeError):
        pass
    return rows
