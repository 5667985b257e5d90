"""Arrays on disk: whole or not there, checked when read, one writer at a time, whatever dies or is damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from flaxbert import disk_cache

KEY, OTHER = "0123456789abcdef" * 2, "f" * 32
SHAPE = (7, 2, 3)
ARRAY = np.arange(42).reshape(SHAPE)


def fill(into):
    """Not in order, and both ways."""
    into[4:7] = ARRAY[4:7]
    into[np.array([3, 0])] = ARRAY[[3, 0]]
    into[1:3] = ARRAY[1:3]


def fetch(folder, fill=fill, key=KEY, dtype="float32"):
    return disk_cache.fetch(folder, key, SHAPE, dtype, {"task": "t"}, fill)


def never(into):
    raise AssertionError("it is there already")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_written_is_read_and_made_once(tmp_path, dtype, capsys):
    for make in (fill, never):
        found = fetch(tmp_path / "new" / "folder", make, dtype=dtype)
        assert isinstance(found, np.memmap)
        assert found.dtype.name == dtype
        np.testing.assert_array_equal(found.astype(int), ARRAY)
    assert capsys.readouterr().err == ""
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [KEY]


def shorten(place):
    with (place / "array.bin").open("r+b") as file:
        file.truncate(100)


def change_a_byte(place):
    content = bytearray((place / "array.bin").read_bytes())
    content[77] ^= 1
    (place / "array.bin").write_bytes(content)


def of_another_key(place):
    about = json.loads((place / "meta.json").read_text())
    (place / "meta.json").write_text(json.dumps({**about, "key": OTHER}))


@pytest.mark.parametrize(("damage", "words"), [
    (shorten, "100 bytes long in place of 168"), (change_a_byte, "a checksum is wrong"),
    (of_another_key, "its meta.json tells of another array"),
    (lambda place: (place / "meta.json").unlink(), "cannot be read (FileNotFoundError)"),
    (lambda place: (place / "meta.json").write_text("[1"), "cannot be read (JSONDecodeError)"),
    (lambda place: (place / "meta.json").write_text("[1]"), "cannot be read (ValueError)"),
    (lambda place: (place / "array.bin").unlink(), "cannot be read (FileNotFoundError)")])
def test_what_is_damaged_is_made_anew_and_said(tmp_path, capsys, damage, words):
    fetch(tmp_path)
    damage(tmp_path / KEY)
    np.testing.assert_array_equal(fetch(tmp_path), ARRAY)
    assert capsys.readouterr().err == f"flaxbert: {tmp_path}/{KEY}: {words}; computing it anew\n"
    fetch(tmp_path, never)


def test_checksums_are_of_every_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "CHUNK", 50)
    fetch(tmp_path)
    assert len(json.loads((tmp_path / KEY / "meta.json").read_text())["checksums"]) == 4
    fetch(tmp_path, never)


def full(into):
    """A disk that is full after the first write."""
    into[0:1] = ARRAY[:1]
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def stopped(into):
    into[0:1] = ARRAY[:1]
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fails", "kind"), [(full, OSError), (stopped, KeyboardInterrupt)])
def test_a_writer_that_fails_leaves_nothing(tmp_path, fails, kind):
    with pytest.raises(kind) as caught:
        fetch(tmp_path, fails)
    assert kind is not OSError or caught.value.errno == errno.ENOSPC
    assert not any(tmp_path.iterdir())
    np.testing.assert_array_equal(fetch(tmp_path), ARRAY)


def test_who_comes_second_waits_and_reads(tmp_path, capsys):
    """Ten at once: one makes it."""
    made, found = [], []

    def slow(into):
        made.append(1)
        time.sleep(0.2)
        fill(into)
    threads = [threading.Thread(target=lambda: found.append(np.array(fetch(tmp_path, slow)))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert len(found) == 10
    assert all(np.array_equal(each, ARRAY) for each in found)
    assert capsys.readouterr().err.count("waiting for another process") == 9
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


WRITER = """
import sys, time
from pathlib import Path
from flaxbert import disk_cache

def fill(into):
    into[0:1] = [[[1.0] * 3] * 2]
    into._file.flush()
    print("writing", flush=True)
    time.sleep(60)

disk_cache.fetch(Path(sys.argv[1]), sys.argv[2], (7, 2, 3), "float32", {}, fill)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of writing KEY."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), KEY], text=True,
                               stdout=subprocess.PIPE, cwd=Path(disk_cache.__file__).parent.parent)
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()


def test_while_another_process_writes_nobody_touches_it(tmp_path, writer):
    fetch(tmp_path, key=OTHER)
    assert disk_cache.sweep(tmp_path) == 0
    assert disk_cache.clear(tmp_path)[0] == 1
    part, lock = sorted((path.name for path in tmp_path.iterdir()), reverse=True)
    assert lock == f"{KEY}.lock"
    assert part.startswith(f"{KEY}.")
    assert part.endswith(f"-{writer.pid}.part")


def test_what_a_dead_process_left_is_removed(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    copied = shutil.copytree(tmp_path, tmp_path.parent / "copied")
    assert disk_cache.sweep(copied) == 24
    assert not any(copied.iterdir())
    np.testing.assert_array_equal(fetch(tmp_path), ARRAY)
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_without_locks_each_writes_a_part_of_its_own(tmp_path, monkeypatch):
    """Machines that share a disk, but not its locks."""
    import fcntl
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    inner = []

    def meanwhile(into):
        into[0:2] = ARRAY[:2]
        monkeypatch.setattr(disk_cache, "_HOST", "other")
        inner.append(np.array(fetch(tmp_path)))
        into[2:7] = ARRAY[2:]
    np.testing.assert_array_equal(fetch(tmp_path, meanwhile), ARRAY)
    np.testing.assert_array_equal(inner[0], ARRAY)
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_a_part_of_another_machine_goes_when_nobody_has_touched_it_for_a_day(tmp_path):
    part = tmp_path / f"{KEY}.elsewhere-1.part"
    part.mkdir()
    (part / "array.bin").write_bytes(b"123")
    assert disk_cache.sweep(tmp_path) == 0
    for path in (part / "array.bin", part):
        os.utime(path, (0, 0))
    assert disk_cache.sweep(tmp_path) == 3
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_opened_is_not_deleted(tmp_path, monkeypatch):
    """Too many open files, say: the array is not damaged."""
    fetch(tmp_path)

    def fail(_):
        raise OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(disk_cache, "_about", fail)
    with pytest.raises(OSError, match="Too many"):
        fetch(tmp_path)
    monkeypatch.undo()
    fetch(tmp_path, never)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_no_number_is_not_kept(tmp_path, value):
    def overflown(into):
        into[0:7] = np.where(ARRAY == 5, value, ARRAY).astype(np.float16)
    with pytest.raises(disk_cache.NotFinite):
        fetch(tmp_path, overflown, dtype="float16")
    assert not any(tmp_path.iterdir())


def test_another_process_that_dies_hands_over_to_the_one_that_waits(tmp_path, writer, capsys):
    threading.Timer(0.3, writer.kill).start()
    np.testing.assert_array_equal(fetch(tmp_path), ARRAY)
    assert capsys.readouterr().err.count("waiting for another process") == 1


# --- what is there

READER = """
import sys
from pathlib import Path
from flaxbert import disk_cache

array = disk_cache.fetch(Path(sys.argv[1]), sys.argv[2], (7, 2, 3), "float32", {}, None)
print("reading", flush=True)
sys.stdin.readline()
print(array.sum(), flush=True)
"""


def test_what_somebody_uses_stays_until_he_is_gone(tmp_path):
    for key in (KEY, OTHER):
        fetch(tmp_path, key=key)
    reader = subprocess.Popen([sys.executable, "-c", READER, str(tmp_path), KEY], text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, cwd=Path(disk_cache.__file__).parent.parent)
    assert reader.stdout.readline() == "reading\n"
    mine = fetch(tmp_path, never, OTHER)
    part = mine[3:]
    del mine  # a view is use enough
    assert [entry.in_use for entry in disk_cache.entries(tmp_path)] == [True, True]
    assert [line.split()[2:4] for line in disk_cache.describe(tmp_path).splitlines()[1:3]] == [["in", "use"]] * 2
    assert disk_cache.clear(tmp_path) == (0, 0)
    del part
    assert disk_cache.clear(tmp_path)[0] == 1
    assert reader.communicate("\n")[0] == f"{ARRAY.sum():.1f}\n"
    assert disk_cache.clear(tmp_path)[0] == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("room", "spared", "left"), [
    (4, (), "abcd"), (3, (), "bcd"), (2.5, (), "cd"), (2, "a", "ad"), (1, "ab", "ab"), (1e-9, (), "")])
def test_clear_to_a_limit_begins_with_what_was_used_longest_ago(tmp_path, room, spared, left):
    for age, name in zip((9, 7, 5, 3), "abcd", strict=True):
        fetch(tmp_path, key=name * 32)
        os.utime(tmp_path / (name * 32) / "meta.json", (time.time() - age, time.time() - age))
    size = max(entry.bytes for entry in disk_cache.entries(tmp_path))
    count, freed = disk_cache.clear(tmp_path, limit=room * size, spare=[name * 32 for name in spared])
    assert {path.name[0] for path in tmp_path.iterdir()} == set(left)
    assert count == 4 - len(left)
    assert count <= freed <= count * size


def test_clear_takes_what_is_ours_and_not_in_use(tmp_path):
    for name in ("mine", "0123", f"{KEY}.npy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    (tmp_path / OTHER[:31]).touch()
    before = {path.name for path in tmp_path.iterdir()}
    fetch(tmp_path)
    fetch(tmp_path, key=OTHER)
    week = time.time() - 7 * 86400
    os.utime(tmp_path / KEY / "meta.json", (week, week))
    sizes = {entry.key: entry.bytes for entry in disk_cache.entries(tmp_path)}
    assert list(sizes) == [OTHER, KEY]  # last used first
    assert disk_cache.clear(tmp_path, 6 * 86400) == (1, sizes[KEY])
    assert disk_cache.clear(tmp_path) == (1, sizes[OTHER])
    assert {path.name for path in tmp_path.iterdir()} == before
    assert disk_cache.clear(tmp_path / "nowhere") == (0, 0)


def test_reading_counts_as_use(tmp_path):
    fetch(tmp_path)
    os.utime(tmp_path / KEY / "meta.json", (0, 0))
    fetch(tmp_path, never)
    assert disk_cache.entries(tmp_path)[0].used > time.time() - 60


def test_describe_tells_of_each_in_columns(tmp_path):
    fetch(tmp_path, dtype="float16")
    shutil.copytree(tmp_path / KEY, tmp_path / OTHER)
    (tmp_path / OTHER / "meta.json").write_text("[]")
    head, *rows, total = disk_cache.describe(tmp_path).splitlines()
    assert head.split() == ["size", "last", "used", "dtype", "layers", "task", "split", "model"]
    assert sorted(row.split()[4:] for row in rows) == [["?"] * 5, ["float16", "?", "t", "?", "?"]]
    assert total.startswith(f"2 in {tmp_path}, ")
    assert disk_cache.describe(tmp_path / "nowhere") == f"0 in {tmp_path}/nowhere, 0 B in all"


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"),
                                            (999_950, "1.0 MB"), (24.04e9, "24.0 GB"), (3e15, "3000.0 TB")])
def test_sizes_for_people(size, text):
    assert disk_cache.readable(size) == text
