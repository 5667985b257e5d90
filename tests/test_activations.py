"""Frozen layers computed once: their states are the encoder's, are kept by the right key, and change no loss."""

import dataclasses
import errno
import itertools
import json
import os
import shutil
import threading

import numpy as np
import pytest
from small import (
    batch_of,
    encoded,
    equal,
    lively,
    losses_of,
    refused,
    result_of,
    shape,
    stop_after,
    units,
)
from small import config as run_config

from flaxbert import activations, disk_cache, heads, inference, prepare, train, trees
from flaxbert.activations import Bottom, layers_to_keep, needed
from flaxbert.bert import Bert
from flaxbert.config import Config
from flaxbert.data import collate
from flaxbert.errors import InputError

SHAPE = shape(layers=3)
TOLERANCE = 1e-4
STEPS = 50


@pytest.fixture(scope="module")
def params():
    """Of an encoder of three layers."""
    return lively(heads.shapes(heads.SequenceModel(SHAPE, 2)))["bert"]


@pytest.mark.parametrize(("reads", "frozen", "layers"), [
    ([12], 8, (8,)), ([12], 12, (12,)), ([12], 0, (0,)), ([12], -1, ()), ([4, 12], 8, (4, 8)),
    ([4, 8], 8, (4, 8)), (range(13), 12, tuple(range(13))), ([9, 10, 11, 12], 10, (9, 10)), ([11, 12], 2, (2,))])
def test_the_layers_that_are_kept_are_those_read_and_the_last_frozen_one(reads, frozen, layers):
    assert needed(reads, frozen) == layers


# --- the states

def states_of(params, split, layers, dtype="float32"):
    bottom = Bottom(SHAPE, params, layers, "float32", dtype, devices=1)
    into = np.zeros(bottom.shape(split), bottom.dtype)
    bottom.write(split, "x", into)
    return into


@pytest.mark.parametrize("split", [encoded(13), units(5)], ids=["texts", "choices"])
def test_states_are_those_of_the_encoder_for_each_token(params, split):
    plan, batch = batch_of(split, range(len(split)))
    found = Bert(SHAPE).apply({"params": params}, batch)
    states = states_of(params, split, (0, 2))
    for example, row, start in zip(plan.examples, plan.row, plan.start, strict=True):
        mine = states[slice(*split.starts[example:example + 2])]
        for i, layer in enumerate((0, 2)):
            np.testing.assert_allclose(mine[:, i], found[layer][row, start:start + len(mine)], atol=1e-5)


@pytest.mark.parametrize(("dtype", "precision"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_states_are_kept_in_fewer_bits(params, dtype, precision):
    split = encoded(5)
    exact, found = states_of(params, split, (1,)), states_of(params, split, (1,), dtype)
    assert found.dtype.name == dtype
    assert 0 < np.abs(found.astype(np.float32) - exact).max() <= precision * np.abs(exact).max()


@pytest.mark.parametrize("split", [encoded(23), units(12, longest=6)], ids=["one", "several"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_carries_the_states_where_the_tokens_stood(split, dtype):
    hidden = np.stack([split.tokens, -split.tokens], 1)[:, :, None].astype(np.dtype(dtype))
    plan, want = batch_of(split, range(len(split)), multiple=4)
    kept = dataclasses.replace(split, hidden=hidden)
    rows = len(want["tokens"])
    for local in (np.arange(rows), np.arange(1, rows, 2)):
        batch = collate(kept, plan, rows, 32, plan.slots, local)
        assert batch["hidden"].dtype.name == dtype
        np.testing.assert_array_equal(batch["hidden"][..., 0, 0], want["tokens"][local])
        np.testing.assert_array_equal(batch["hidden"][..., 1, 0], -want["tokens"][local])
        assert want.keys() - batch.keys() == {"tokens", "types", "positions"}
        assert all(np.array_equal(batch[name], want[name][local]) for name in want.keys() & batch.keys())


# --- the key

def changed(tree, name):
    return trees.map_named(lambda leaf, x: x + 1 if leaf.startswith(name) else x, tree)


@pytest.fixture(scope="module")
def bottom(params):
    return Bottom(SHAPE, params, (1, 2), "float32", "float32")


@pytest.mark.parametrize("change", [
    dict(params="embeddings/word"), dict(params="layer_0/attention/query/bias"), dict(params="layer_1/mlp"),
    dict(layers=(2,)), dict(layers=(0, 2)), dict(layers=(1, 3)), dict(dtype="float16"),
    dict(arithmetic="bfloat16"), dict(config=dataclasses.replace(SHAPE, layer_norm_eps=1e-5)),
    dict(config=dataclasses.replace(SHAPE, hidden_act="relu")),
    dict(config=dataclasses.replace(SHAPE, num_attention_heads=4))], ids=str)
def test_what_changes_states_changes_the_key(bottom, change):
    if "params" in change:
        change = {"params": changed(bottom.params, change["params"])}
    split = encoded(5)
    assert dataclasses.replace(bottom, **change).key(split) != bottom.key(split)


def test_other_tokens_have_another_key(bottom):
    split = encoded(5)
    second, offsets = split.second.copy(), split.offsets.copy()
    second[3] -= 1
    offsets[2] += 1
    others = [encoded(5, seed=1), encoded(6), dataclasses.replace(split, second=second),
              dataclasses.replace(split, offsets=offsets), dataclasses.replace(split, tokens=split.tokens + 1)]
    assert len({bottom.key(each) for each in (split, *others)}) == 6


def test_what_changes_no_state_keeps_the_key(bottom):
    split = encoded(5)
    key = bottom.key(split)
    other = dataclasses.replace(SHAPE, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.0,
                                num_hidden_layers=7)
    for change in (dict(params=changed(bottom.params, "layer_2")), dict(devices=3), dict(config=other)):
        assert dataclasses.replace(bottom, **change).key(split) == key
    blank = dataclasses.replace(split, labels=None, weights=split.weights * 2, hidden=np.zeros((1, 1, 1)))
    assert bottom.key(blank) == key
    assert bottom.key(dataclasses.replace(split, offsets=split.offsets.astype(np.int32))) == key


# --- whether it is done

@pytest.mark.parametrize(("given", "frozen", "passes", "layers"), [
    (dict(), 2, 3.0, (2,)), (dict(), 2, 1.0, ()), (dict(), 0, 3.0, ()), (dict(), -1, 3.0, ()),
    (dict(cache_frozen="false"), 2, 3.0, ()), (dict(cache_frozen=False), 2, 3.0, ()),
    (dict(cache_frozen="true"), 2, 0.5, (2,)), (dict(cache_frozen=True), 0, 1.0, (0,)),
    (dict(strategy="features"), 3, 1.0, (3,))], ids=str)
def test_frozen_layers_are_computed_once_where_it_pays(given, frozen, passes, layers, capsys):
    assert layers_to_keep(Config.make(**given), "classification", [3], frozen, passes) == layers
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "kind", "frozen", "words", "said"), [
    (dict(frozen_dropout=True), "token", 2, "--frozen_dropout draws", True),
    (dict(), "pretraining", 2, "draws its masks anew at each step", True),
    (dict(), "token", -1, "nothing is frozen from the embeddings up with --strategy=full", False)])
def test_where_it_cannot_be_it_is_said_or_refused(given, kind, frozen, words, said, capsys):
    assert layers_to_keep(Config.make(**given), kind, [3], frozen, 3.0) == ()
    err = capsys.readouterr().err
    assert (words in err and err.count("\n") == 1) if said else err == ""
    line = refused(layers_to_keep, Config.make(**given, cache_frozen="true"), kind, [3], frozen, 3.0)
    assert line.startswith("--cache_frozen=true: ")
    assert words in line


@pytest.mark.parametrize(("given", "frozen"), [(dict(), -1), (dict(cache_frozen="false"), 2)])
def test_a_type_for_what_is_not_kept_is_refused(given, frozen):
    line = refused(layers_to_keep, Config.make(cache_dtype="float16", **given), "token", [3], frozen, 3.0)
    assert line.startswith("--cache_dtype=float16: nothing is kept: ")


# --- the disk

def keep(bottom, folder, **given):
    splits = {"train": encoded(9), "dev": encoded(4, seed=1)}
    config = Config.make(cache_dir=str(folder), **given)
    return activations.keep(config, bottom, splits, {"model": "m", "task": "t"})


@pytest.fixture
def computed(monkeypatch):
    """The splits whose states are computed, as they are."""
    seen, write = [], Bottom.write
    monkeypatch.setattr(Bottom, "write", lambda *args: seen.append(args[2]) or write(*args))
    return seen


def test_a_second_run_computes_nothing(bottom, tmp_path, computed, capsys):
    first = keep(bottom, tmp_path / "new")
    assert computed == ["train", "dev"]
    err = capsys.readouterr().err
    size = sum(each.nbytes for each in first.values())
    assert err.startswith(f"flaxbert: layer 1, 2 of train, dev: computed once, {disk_cache.readable(size)} in ")
    assert " are free\n" in err
    again = keep(bottom, tmp_path / "new")
    assert computed == ["train", "dev"]
    assert capsys.readouterr().err == f"flaxbert: layer 1, 2 of train, dev: read from {tmp_path}/new\n"
    assert equal(first, again)
    shutil.rmtree(tmp_path / "new" / bottom.key(encoded(4, seed=1)))
    assert equal(keep(bottom, tmp_path / "new"), first)
    assert computed == ["train", "dev", "dev"]
    about = [entry.about for entry in disk_cache.entries(tmp_path / "new")]
    assert {each["split"] for each in about} == {"train", "dev"}
    assert all((each["model"], each["task"], each["layers"], each["dtype"]) == ("m", "t", [1, 2], "float32")
               for each in about)


def test_what_is_damaged_is_computed_anew(bottom, tmp_path, computed, capsys):
    first = {name: np.array(each) for name, each in keep(bottom, tmp_path).items()}
    file = tmp_path / bottom.key(encoded(9)) / "array.bin"
    file.write_bytes(file.read_bytes()[:-8])
    capsys.readouterr()
    assert equal(keep(bottom, tmp_path), first)
    assert computed == ["train", "dev", "train"]
    assert capsys.readouterr().err.count("computing it anew") == 1


def test_states_go_to_disk_batch_by_batch(bottom, tmp_path, monkeypatch):
    """No array of a whole split is made."""
    monkeypatch.setattr(inference, "TOKENS_A_BATCH", 32)
    most, real = [], disk_cache.ArrayFile.__setitem__

    def spy(self, where, values):
        most.append(len(values))
        real(self, where, values)
    monkeypatch.setattr(disk_cache.ArrayFile, "__setitem__", spy)
    split, alone = encoded(40), dataclasses.replace(bottom, devices=1)
    found = activations.keep(Config.make(cache_dir=str(tmp_path)), alone, {"train": split}, {})["train"]
    assert max(most) <= 32 < sum(most) == len(split.tokens)
    np.testing.assert_allclose(found, states_of(bottom.params, split, (1, 2)), atol=1e-5)


def no_room(monkeypatch):
    monkeypatch.setattr(disk_cache, "free", lambda folder: 1500)
    return "layer 1, 2 of train, dev would take ", "1.5 kB are free"


def full_disk(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(disk_cache.ArrayFile, "__setitem__", fail)
    return ("No space left on device",)


def another_of_the_pod(monkeypatch):
    went_well = itertools.cycle([True, False])  # nobody has failed, somebody has no room
    monkeypatch.setattr(activations.parallel, "everywhere", lambda true: next(went_well))
    return ("another process of the pod cannot write",)


@pytest.mark.parametrize("trouble", [no_room, full_disk, another_of_the_pod])
def test_without_room_it_goes_on_without_or_stops(bottom, tmp_path, monkeypatch, capsys, trouble):
    words = trouble(monkeypatch)
    assert keep(bottom, tmp_path) is None
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(word in last for word in (*words, "going on without", "--cache_dir")), last
    line = refused(keep, bottom, tmp_path, cache_frozen="true")
    assert all(word in line for word in words), line
    left = [path for path in tmp_path.iterdir() if path.suffix]
    assert not left


@pytest.mark.parametrize("error", [InputError("no memory"), ZeroDivisionError("a mistake"), OSError("disk")])
@pytest.mark.parametrize(("where", "name"), [(Bottom, "write"), (disk_cache, "sweep")], ids=["later", "at once"])
def test_a_process_of_a_pod_that_fails_keeps_none_waiting(bottom, tmp_path, monkeypatch, capsys, where, name,
                                                          error):
    """Two processes, as threads with disks of their own: each asks how the other fared, whatever happens to it."""
    def broken(*args):
        if threading.current_thread().name == "broken":
            raise error
        return real(*args)
    real = getattr(where, name)
    monkeypatch.setattr(where, name, broken)
    together, said, ended = threading.Barrier(2, timeout=60), [], {}

    def everywhere(true):
        said.append(true)
        together.wait()
        result = all(said[-2:])
        together.wait()
        return result

    def process(name):
        try:
            ended[name] = keep(bottom, tmp_path / name)
        except Exception as problem:
            ended[name] = problem
    monkeypatch.setattr(activations.parallel, "everywhere", everywhere)
    threads = [threading.Thread(target=process, args=[name], name=name) for name in ("sound", "broken")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if isinstance(error, OSError):
        assert ended == {"sound": None, "broken": None}
        err = capsys.readouterr().err
        assert err.count("going on without") == 2
        assert "another process of the pod cannot write to its own" in err
    else:
        assert ended["broken"] is error
        assert isinstance(ended["sound"], InputError)
        assert "another process of the pod could not compute" in str(ended["sound"])


def test_a_limit_is_kept_by_what_was_used_longest_ago(bottom, tmp_path, computed, capsys):
    def left():
        return {tuple(entry.about["layers"]) for entry in disk_cache.entries(tmp_path)}

    def with_layers(*layers):
        return dataclasses.replace(bottom, layers=layers)
    keep(with_layers(1), tmp_path)
    size = sum(entry.bytes for entry in disk_cache.entries(tmp_path))
    limit = 2.05 * size / 1e9
    two = keep(with_layers(2), tmp_path, cache_limit=limit)
    assert left() == {(1,), (2,)}
    capsys.readouterr()
    keep(with_layers(3), tmp_path, cache_limit=limit)
    assert left() == {(2,), (3,)}
    assert f"--cache_limit={limit:g}: deleted what was used longest ago, 2 in " in capsys.readouterr().err
    # What another run uses stays, and so does what this one finds there, used longest ago or not.
    keep(with_layers(0), tmp_path, cache_limit=limit)
    assert left() == {(0,), (2,)}
    shutil.rmtree(tmp_path / with_layers(0).key(encoded(4, seed=1)))
    for path in tmp_path.glob("*/meta.json"):
        os.utime(path, (0, 0))
    computed.clear()
    keep(with_layers(0), tmp_path, cache_limit=limit)
    assert computed == ["dev"]
    assert left() == {(0,), (2,)}
    capsys.readouterr()
    assert keep(with_layers(1, 3), tmp_path, cache_limit=limit) is None
    words = f"--cache_limit={limit:g}: layer 1, 3 of train, dev would take "
    assert words in capsys.readouterr().err
    assert words in refused(keep, with_layers(1, 3), tmp_path, cache_limit=limit, cache_frozen="true")
    assert left() == {(0,), (2,)}  # nothing goes where it would not be enough
    del two
    assert keep(with_layers(1, 3), tmp_path, cache_limit=limit)
    assert left() == {(1, 3)}


def test_what_its_type_cannot_hold_is_not_kept(bottom, tmp_path, capsys):
    loud = dataclasses.replace(bottom, layers=(0,), dtype="float16", params=trees.map_named(
        lambda name, x: x * 1e5 if name == "embeddings/layer_norm/scale" else x, bottom.params))
    assert keep(loud, tmp_path) is None
    words = "--cache_dtype=float16: cannot hold what layer 0 says; bfloat16 or float32 can"
    assert words in capsys.readouterr().err
    assert refused(keep, loud, tmp_path, cache_frozen="true").startswith(words)
    assert not any(tmp_path.iterdir())
    assert keep(dataclasses.replace(loud, dtype="bfloat16"), tmp_path)


def test_auto_leaves_half_of_what_is_free(bottom, tmp_path, monkeypatch):
    size = sum(disk_cache.size_of(bottom.shape(each), "float32") for each in (encoded(9), encoded(4, seed=1)))
    monkeypatch.setattr(disk_cache, "free", lambda folder: 2 * size - 1)
    assert keep(bottom, tmp_path) is None
    assert keep(bottom, tmp_path, cache_frozen="true")


def test_a_folder_that_cannot_be_written_is_one_line(bottom, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(keep, bottom, tmp_path / "file" / "cache", cache_frozen="true")
    assert line.startswith(f"--cache_dir={tmp_path}/file/cache: ")


# --- runs

def finetune(model, run, **given):
    settings = dict(max_steps=STEPS, evals_per_epoch=0, max_train_examples=40, max_eval_examples=8,
                    learning_rate=2e-3)
    train.finetune(run_config(model, run, **{**settings, **given}))
    return losses_of(run), result_of(run), json.loads((run / "config.json").read_text())["cached_layers"]


@pytest.fixture
def one_program(monkeypatch):
    """Of the largest number of rows: compiling is most of the time here."""
    monkeypatch.setattr(prepare, "PROGRAMS", 1)


@pytest.mark.usefixtures("one_program")
@pytest.mark.parametrize(("given", "layers"), [
    (dict(frozen_layers=1), [1]), (dict(strategy="head", task="toy_token"), [2]),
    (dict(strategy="features", task="toy_choice", layers="0,1", max_length=64), [0, 1]),
    (dict(frozen_layers=1, task="toy_span", layers="scalar_mix", max_train_examples=10, devices=4), [0, 1])],
    ids=["freeze", "head", "features", "four devices"])
def test_cached_equals_uncached(deep, tmp_path, given, layers, capsys):
    given = {**given, "checkpoints": False}
    without, result, none = finetune(deep, tmp_path / "without", cache_frozen="false", **given)
    assert "computed once" not in capsys.readouterr().err
    with_it, same, kept = finetune(deep, tmp_path / "with", **given)
    assert "computed once" in capsys.readouterr().err
    assert (none, kept) == ([], layers)
    assert max(without.values()) - min(without.values()) > 0.01
    assert max(abs(without[step] - with_it[step]) for step in without) < TOLERANCE
    for split in ("dev", "test"):
        assert same["metrics"][split] == pytest.approx(result["metrics"][split], abs=1e-3)
    assert same["parameters_trained"] == result["parameters_trained"]


def test_a_resumed_run_makes_the_cache_anew(deep, tmp_path, capsys):
    given = dict(frozen_layers=1, max_steps=10, evals_per_epoch=0, max_train_examples=40)
    stop_after(5, run_config(deep, tmp_path / "run", **given))
    shutil.rmtree(tmp_path / "run.activations")
    capsys.readouterr()
    train.finetune(run_config(deep, tmp_path / "run", **given, resume=True))
    assert "computed once" in capsys.readouterr().err
    train.finetune(run_config(deep, tmp_path / "whole", **given))
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")


def test_a_model_that_was_changed_meanwhile_is_refused(deep, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(deep, model)
    given = dict(frozen_layers=1, max_steps=4, max_train_examples=16, evals_per_epoch=0)
    stop_after(2, run_config(str(model), tmp_path / "run", **given))
    from safetensors.numpy import load_file, save_file
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("embeddings.LayerNorm.bias"))
    save_file({**tensors, name: tensors[name] + 1}, model / "model.safetensors")
    line = refused(train.finetune, run_config(str(model), tmp_path / "run", **given, resume=True))
    assert "holds other weights than when this run began" in line
    train.finetune(run_config(str(model), tmp_path / "run", **given, resume=True, cache_frozen="false"))
