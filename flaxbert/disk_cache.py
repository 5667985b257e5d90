"""Large arrays on disk by key: whole or not there, checked when they are read, made by one process at a time.

FOLDER/KEY/array.bin holds the numbers, FOLDER/KEY/meta.json what they are and a checksum of each CHUNK bytes.
KEY.HOST-PROCESS.part is one in the making. KEY.lock is held by who makes it, array.bin is locked by all who use
it; the system lets go of both when a process dies. Where machines share a disk but not its locks two may make one
array, each in a part of its own.
"""

import json
import math
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes  # noqa: F401 (teaches numpy the name bfloat16)
import numpy as np

from flaxbert.errors import note
from flaxbert.progress import bar

CHUNK = 1 << 26
SHOWN = ("dtype", "layers", "task", "split", "model")  # of meta.json, by `flaxbert cache list`
FORGOTTEN = 86400.0  # seconds after which a part of another machine, untouched, is that of a dead process
_NAME = re.compile(r"([0-9a-f]{32})(\.[\w-]+\.part|\.lock|)")  # nothing else in a folder is ours
_HOST = re.sub(r"[^\w-]", "-", socket.gethostname())


class Damaged(Exception):
    """What is there is not what was written; the text says how it shows."""


class NotFinite(Exception):
    """What was to be kept holds an infinity or something that is no number."""


class ArrayFile:
    """A file filled piece by piece, `array[where] = values`, in any order, without the array being in memory.

    By write calls and not through a memory map, which kills the process where the disk is full.

    Args:
      file: open for writing.
      shape, dtype: of the array.
      begin: the byte of the file where it begins.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: Any, begin: int = 0):
        self._file, self._dtype, self._begin = file, np.dtype(dtype), begin
        self._stride = size_of((1, *shape[1:]), dtype)

    def __setitem__(self, where: slice | np.ndarray, values: np.ndarray) -> None:
        """Writes the entries of a slice without a step, or those that an array of numbers names.

        Raises:
          NotFinite: a value is none that is worth keeping.
        """
        if not np.isfinite(values).all():
            raise NotFinite
        pieces = [(where.start, values)] if isinstance(where, slice) else zip(where.tolist(), values, strict=True)
        for first, piece in pieces:
            self._file.seek(self._begin + first * self._stride)
            self._file.write(np.ascontiguousarray(piece, self._dtype).view(np.uint8))


class Entry(NamedTuple):
    """An array that is kept.

    Attributes:
      key: of it.
      bytes: its size.
      used: when somebody last began to use it, in seconds since 1970.
      in_use: whether somebody does now.
      about: what meta.json says.
    """

    key: str
    bytes: int
    used: float
    in_use: bool
    about: dict[str, Any]


def size_of(shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def readable(size: float) -> str:
    """Bytes for people: 512 B, 1.5 MB, 24.0 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.1f} {unit}".replace(".0 B", " B")
        size /= 1000
    return f"{size:.1f} TB"


def free(folder: Path) -> int:
    """Bytes that can still be written where a folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def fetch(folder: Path, key: str, shape: tuple[int, ...], dtype: str, about: Mapping[str, Any],
          fill: Callable[[ArrayFile], None]) -> np.ndarray:
    """The array of a key as a memory map: read where it is there and undamaged, else made.

    Args:
      folder: of the cache.
      key: 32 hexadecimal digits that stand for everything that the numbers depend on.
      shape, dtype: of the array.
      about: what else meta.json is to say.
      fill: writes the whole of it.

    Raises:
      OSError: the folder cannot be read or written, or the disk is full; nothing is left behind.
      NotFinite: `fill` gave a value that is none; likewise.
    """
    with suppress(FileNotFoundError, Damaged):  # without the lock: readers need not wait for each other
        return _read(folder, key, shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder, key):
        try:
            return _read(folder, key, shape, dtype)  # somebody else has made it meanwhile
        except FileNotFoundError:
            pass
        except Damaged as problem:
            note(f"{folder / key}: {problem}; computing it anew")
            shutil.rmtree(folder / key)
        _make(folder, key, shape, dtype, about, fill)
        with _opened(folder / key) as file:
            return _map(file, shape, dtype)


def _make(folder: Path, key: str, shape: tuple[int, ...], dtype: str, about: Mapping[str, Any],
          fill: Callable[[ArrayFile], None]) -> None:
    """Writes FOLDER/KEY, by one renaming; of two machines that do the first one's stays."""
    part = folder / f"{key}.{_HOST}-{os.getpid()}.part"
    try:
        _bury(folder, key)
        part.mkdir()
        with (part / "array.bin").open("w+b") as file:
            fill(ArrayFile(file, shape, dtype))
            file.flush()
            os.fsync(file.fileno())  # a network's disk says only now that it is full
            file.seek(0)
            sums = _checksums(file)
        meta = {**about, "key": key, "shape": shape, "dtype": dtype, "bytes": size_of(shape, dtype),
                "checksums": sums, "made": time.strftime("%Y-%m-%d %H:%M:%S")}
        (part / "meta.json").write_text(json.dumps(meta) + "\n", "utf-8")
        try:
            part.rename(folder / key)
        except OSError:
            if not (folder / key / "meta.json").exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def present(folder: Path, key: str, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether the array of a key is there, as far as its length tells."""
    with suppress(OSError):
        return (folder / key / "array.bin").stat().st_size == size_of(shape, dtype)
    return False


def _opened(place: Path) -> BinaryIO:
    """array.bin, marked as in use until it and all maps of it are gone: a map shares its file's lock."""
    file = (place / "array.bin").open("rb")
    with suppress(OSError):  # a disk without locks
        _locked(file, alone=False, wait=True)
    return file


def _map(file: BinaryIO, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.memmap(file, np.dtype(dtype), "r", shape=shape)


def _about(place: Path) -> dict[str, Any]:
    """What meta.json says; raises OSError or ValueError."""
    about = json.loads((place / "meta.json").read_text("utf-8"))
    if not isinstance(about, dict):
        raise ValueError("no JSON object")
    return about


def _read(folder: Path, key: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array of a key, compared with its checksums; raises FileNotFoundError or Damaged."""
    place = folder / key
    if not place.exists():
        raise FileNotFoundError(place)
    try:
        about = _about(place)
        found, sums = (about["key"], tuple(about["shape"]), about["dtype"]), about["checksums"]
        file = _opened(place)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"cannot be read ({type(error).__name__})") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        if found != (key, shape, dtype):
            raise Damaged("its meta.json tells of another array")
        if size != size_of(shape, dtype):
            raise Damaged(f"{size} bytes long in place of {size_of(shape, dtype)}")
        if _checksums(file) != sums:
            raise Damaged("a checksum is wrong")
        with suppress(OSError):  # somebody else's, or on a disk that is only read
            os.utime(place / "meta.json")
        return _map(file, shape, dtype)


def _checksums(file: BinaryIO) -> list[int]:
    """CRC-32 of each CHUNK bytes."""
    count = -(-os.fstat(file.fileno()).st_size // CHUNK)
    with bar(count, "checksums", unit="chunks", hidden=count < 32) as progress:
        sums = []
        while part := file.read(CHUNK):
            sums.append(zlib.crc32(part))
            progress.update()
        return sums


def _locked(file: BinaryIO, alone: bool = True, wait: bool = False) -> bool:
    """Locks an open file, for us alone or beside others who do not want it alone; whether that was possible."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
    except ImportError as error:
        raise OSError("this system has no file locks") from error
    try:
        flock(file, (LOCK_EX if alone else LOCK_SH) | (0 if wait else LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _acquire(path: Path, wait: bool) -> BinaryIO | None:
    """The lock file, locked; None where somebody else holds it and we do not wait."""
    told = not wait
    while True:
        file = path.open("wb")
        if not _locked(file):
            if not told:
                note(f"{path.with_suffix('')}: waiting for another process, which is making it")
                told = True
            if not wait:
                file.close()
                return None
            _locked(file, wait=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # who held it has deleted the file that we have locked now


@contextmanager
def lock(folder: Path, key: str, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of a key, which is said; without `wait` it may be somebody else's."""
    path = folder / f"{key}.lock"
    file = _acquire(path, wait)
    try:
        yield file is not None
    finally:
        if file:
            path.unlink(missing_ok=True)
            file.close()


def _names(folder: Path) -> list[re.Match]:
    """The names in a folder that are ours: (1) is the key, (2) the ending."""
    return [name for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
            if (name := _NAME.fullmatch(path.name))]


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in place.iterdir())


def _in_use(place: Path) -> bool:
    """Whether somebody has the array of a place open."""
    with suppress(OSError), (place / "array.bin").open("r+b") as file:  # a network's disk locks no other for one
        return not _locked(file)
    return False


def _bury(folder: Path, key: str) -> int:
    """Deletes the parts of a key whose writers are dead, for who holds its lock; returns how many bytes."""
    freed = 0
    for part in folder.glob(f"{key}.*.part"):
        with suppress(FileNotFoundError):  # just renamed or deleted by another machine
            touched = max(path.stat().st_mtime for path in (part, *part.iterdir()))
            if part.name.startswith(f"{key}.{_HOST}-") or time.time() - touched > FORGOTTEN:
                freed += _size(part)
                shutil.rmtree(part)
    return freed


def sweep(folder: Path) -> int:
    """Deletes what writers that died have left behind; returns how many bytes that freed."""
    freed = 0
    for key in {name[1] for name in _names(folder) if name[2]}:
        with suppress(FileNotFoundError, PermissionError), lock(folder, key, wait=False) as held:
            freed += _bury(folder, key) if held else 0
    return freed


def entries(folder: Path) -> list[Entry]:
    """What a cache holds, last used first; of one whose meta.json cannot be read, `about` is empty."""
    found = []
    for name in _names(folder):
        if name[2]:
            continue
        place = folder / name[1]
        with suppress(FileNotFoundError):  # just deleted by somebody else
            about, used = {}, place.stat().st_mtime
            with suppress(OSError, ValueError):
                about, used = _about(place), (place / "meta.json").stat().st_mtime
            found.append(Entry(name[1], _size(place), used, _in_use(place), about))
    return sorted(found, key=lambda entry: -entry.used)


def describe(folder: Path) -> str:
    """The text of `flaxbert cache list`: a line for each array with what meta.json says of it, last used first."""
    found = entries(folder)
    rows = [("size", "last used", *SHOWN)]
    for entry in found:
        about = [entry.about.get(name, "?") for name in SHOWN]
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        rows.append((readable(entry.bytes), "in use" if entry.in_use else used,
                     *(",".join(map(str, x)) if isinstance(x, list) else str(x) for x in about)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total = f"{len(found)} in {folder}, {readable(sum(entry.bytes for entry in found))} in all"
    return "\n".join([*(lines if found else []), total])


def clear(folder: Path, unused_seconds: float = 0.0, limit: float = 0.0,
          spare: Collection[str] = ()) -> tuple[int, int]:
    """Deletes arrays, those first that were used longest ago, and leftovers; what is in use or being made stays.

    Args:
      folder: of the cache.
      unused_seconds: only those that nobody has used for so long.
      limit: only until the others take so many bytes; 0: all of them.
      spare: keys of those that stay.

    Returns:
      how many arrays, and how many bytes that freed.
    """
    count, freed, now = 0, sweep(folder), time.time()
    found = entries(folder)
    size = sum(entry.bytes for entry in found)
    for entry in reversed(found):
        if limit and size <= limit:
            break
        if entry.in_use or entry.key in spare or now - entry.used < unused_seconds:
            continue
        with suppress(FileNotFoundError, PermissionError), lock(folder, entry.key, wait=False) as held:
            if held:
                shutil.rmtree(folder / entry.key)
                count, freed, size = count + 1, freed + entry.bytes, size - entry.bytes
    return count, freed
