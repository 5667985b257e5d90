"""Features of a user's texts: the states of the layers asked for, in memory and as files; cache commands."""

import errno
import json

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from small import TINY, call, refused, write

import flaxbert
from flaxbert import disk_cache, extraction, pretrained
from flaxbert.bert import Bert
from flaxbert.extraction import extract, numbers, read_texts

TEXTS = ["the film was good", "I did not like the bread at all", "yes"]
PAIRS = [("the film was good", "I liked it"), ("yes", "no bread today")]


def states(model, ids, second):
    """All layers' states [L + 1, tokens, D] of one sequence, computed alone."""
    batch = {"tokens": ids, "types": np.arange(len(ids)) >= second, "positions": np.arange(len(ids)),
             "sequence": np.ones(len(ids))}
    batch = {name: np.asarray(x, np.int32)[None] for name, x in batch.items()}
    source = pretrained.load(model)
    return np.concatenate(Bert(source.config).apply({"params": source.params["bert"]}, batch))


@pytest.fixture(scope="module")
def of_texts(deep):
    return flaxbert.features(TEXTS, model=deep, layers="embeddings,2,1")


def test_features_are_the_states_of_the_layers_in_the_order_asked_for(deep, of_texts):
    found = of_texts
    assert found.layers == (0, 2, 1)
    assert found.features.shape == (found.offsets[-1], 3, TINY.hidden_size)
    assert [text[0] + text[-1] for text in found.tokens] == ["[CLS][SEP]"] * 3
    assert [len(text) for text in found.tokens] == np.diff(found.offsets).tolist()
    for begin, end in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        want = states(deep, found.token_ids[begin:end], second=99)
        np.testing.assert_allclose(found.features[begin:end], want[[0, 2, 1]].swapaxes(0, 1), atol=1e-5)


def test_pairs_have_two_parts(deep):
    found = flaxbert.features(PAIRS, model=deep)
    assert found.layers == (2,)
    assert [text.count("[SEP]") for text in found.tokens] == [2, 2]
    first = found.tokens[0].index("[SEP]") + 1
    end = found.offsets[1]
    want = states(deep, found.token_ids[:end], first)[2]
    np.testing.assert_allclose(found.features[:end, 0], want, atol=1e-5)


@pytest.mark.parametrize(("pooling", "pool"), [("cls", lambda x: x[0]), ("mean", lambda x: x.mean(0)),
                                               ("max", lambda x: x.max(0))])
def test_pooling_makes_one_vector_of_a_text(deep, of_texts, pooling, pool):
    found = flaxbert.features(TEXTS, model=deep, layers=[0, 2, 1], pooling=pooling)
    each = np.split(of_texts.features, of_texts.offsets[1:-1])
    np.testing.assert_allclose(found.features, [pool(x) for x in each], atol=1e-5)
    assert found.tokens == of_texts.tokens


@pytest.mark.parametrize(("layers", "want"), [
    (["0", "4", "last"], (0, 4, 12)), ([7], (7,)), (["last", "12", "second_to_last"], (12, 11)),
    (["concat_last4", "embeddings"], (9, 10, 11, 12, 0))])
def test_layers_have_numbers_and_names(layers, want):
    assert numbers(layers, 12) == want


@pytest.mark.parametrize(("layers", "words"), [
    (["13"], "--layers=13: the model has no layer 13; valid: 0 (the embeddings) to 12"),
    (["-1"], "no layer -1"), (["top"], "--layers=top: unknown"), ([], "unknown"),
    (["scalar_mix"], "its weights are learnt in training")])
def test_other_layers_are_refused(layers, words):
    assert words in refused(numbers, layers, 12)


def test_long_texts_are_cut_and_it_is_said(deep, capsys):
    found = flaxbert.features(["the " * 50, "yes"], model=deep, max_length=8)
    assert np.diff(found.offsets).tolist() == [8, 3]
    assert capsys.readouterr().err == "flaxbert: inputs: 1 of 2 fill --max_length=8; what is longer is cut\n"


# --- files

@pytest.mark.parametrize(("name", "lines", "columns", "first", "second"), [
    ("a.txt", ["one text", 'a "quoted" one'], (), ["one text", 'a "quoted" one'], None),
    ("a.tsv", ["one\tother", "two\tthree"], (), ["one", "two"], ["other", "three"]),
    ("a.csv", ["id,text", '1,"one, two"'], (), ["one, two"], None),
    ("a.csv", ["good,question,answer", "1,why,so"], ("question", "answer"), ["why"], ["so"]),
    ("a.jsonl", ['"one"', '"two"'], (), ["one", "two"], None),
    ("a.jsonl", ['["one", "two"]'], (), ["one"], ["two"]),
    ("a.jsonl", ['{"text": "one"}'], (), ["one"], None),
    ("a.jsonl", ['{"b": "one", "a": "two"}'], ("a", "b"), ["two"], ["one"])])
def test_files_of_texts(tmp_path, name, lines, columns, first, second):
    examples, _ = read_texts(str(write(tmp_path / name, *lines)), columns, False)
    assert (examples.first, examples.second) == (first, second)


@pytest.mark.parametrize(("name", "lines", "columns", "words"), [
    ("a.txt", ["one", "two\tthree"], (), "a.txt, line 2: 2 columns; features without a header has 1"),
    ("a.jsonl", ['{"words": "one"}'], (), "missing column text; found: words"),
    ("a.csv", ["text,label", "one,1"], ("sentence",), "missing column sentence; found: text, label"),
    ("a.csv", ["a,b,c", "1,2,3"], ("a", "b", "c"), "--text_columns=a,b,c: give one column, or two"),
    ("a.txt", [], (), "empty"), ("a.txt", ["one", "  ", "two"], (), "line 2: the text is empty"),
    ("a.pdf", ["one"], (), "unknown kind of file")])
def test_files_that_hold_something_else_are_one_line(tmp_path, name, lines, columns, words):
    assert words in refused(read_texts, str(write(tmp_path / name, *lines)), columns, False)


@pytest.fixture
def texts(tmp_path):
    return str(write(tmp_path / "texts.txt", *TEXTS))


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_files_hold_what_python_gets(deep, tmp_path, texts, of_texts, ending, capsys):
    output = tmp_path / "new" / f"found{ending}"
    assert extract(str(output), texts, model=deep, layers="embeddings,2,1") == output
    arrays = load_file(output) if ending == ".safetensors" else np.load(output)
    for name in ("features", "offsets", "token_ids"):
        want = getattr(of_texts, name)
        assert arrays[name].dtype == want.dtype
        np.testing.assert_allclose(arrays[name], want, atol=1e-6)
    about = json.loads(output.with_suffix(".tokens.json").read_text())
    assert about == {"model": deep, "layers": [0, 2, 1], "pooling": "none", "dtype": "float32", "max_length": 64,
                     "tokens": of_texts.tokens}
    assert len(output.with_suffix(".tokens.json").read_text().splitlines()) == 1 + len(TEXTS)  # a text a line
    assert sorted(path.name for path in output.parent.iterdir()) == sorted([f"found{ending}", "found.tokens.json"])
    assert capsys.readouterr().err.count(" are free\n") == 1


@pytest.mark.parametrize(("dtype", "given"), [("float16", {}), ("bfloat16", dict(pooling="mean"))])
def test_a_folder_of_fewer_bits(deep, tmp_path, texts, of_texts, dtype, given):
    file = extract(str(tmp_path / "folder"), texts, model=deep, layers=(2,), dtype=dtype, **given)
    assert file == tmp_path / "folder" / "features.safetensors"
    with safe_open(file, "numpy") as content:
        found = content.get_tensor("features")
        assert json.loads(content.metadata()["layers"]) == [2]
    want = of_texts.features[:, 1:2]
    if given:
        want = np.stack([each.mean(0) for each in np.split(want, of_texts.offsets[1:-1])])
    assert found.dtype.name == dtype
    np.testing.assert_allclose(found.astype(np.float32), want, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("output", "given", "words"), [
    ("x.pt", {}, "ends in .safetensors or .npz, or a folder"), ("x.npz", dict(dtype="bfloat16"), "numpy's files"),
    ("x.npz", dict(dtype="float64"), "--dtype=float64: unknown"), ("x.npz", dict(pooling="sum"), "--pooling=sum"),
    ("x.npz", dict(layers="3"), "no layer 3"), ("x.npz", dict(max_length=65), "positions for 64 tokens"),
    ("texts.txt/x.npz", {}, "cannot be written"), ("x.npz", dict(input="no.txt"), "no.txt: cannot be read")])
def test_bad_input_is_one_line(deep, tmp_path, texts, output, given, words):
    assert words in refused(extract, str(tmp_path / output), **{"input": texts, "model": deep, **given})
    assert not (tmp_path / "x.npz").exists()


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("place", "what", "words"), [
    (disk_cache.ArrayFile, "__setitem__", "No space left on device"), (disk_cache, "free", "0 B are free")])
@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_a_full_disk_leaves_what_was_there(deep, tmp_path, texts, monkeypatch, ending, place, what, words):
    output = write(tmp_path / "out" / f"x{ending}", "of yesterday")
    monkeypatch.setattr(place, what, full_disk if what != "free" else lambda folder: 0)
    assert words in refused(extract, str(output), texts, model=deep)
    assert output.read_text() == "of yesterday\n"
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_an_archive_takes_twice_the_room_while_it_is_written(deep, tmp_path, texts, monkeypatch):
    monkeypatch.setattr(disk_cache, "free", lambda folder: 0)
    lines = [refused(extract, str(tmp_path / f"x{ending}"), texts, model=deep)
             for ending in (".safetensors", ".npz")]
    once, twice = (float(line.split("takes ")[1].split()[0]) for line in lines)
    assert twice == pytest.approx(2 * once, rel=0.02)


def test_a_lone_text_is_a_list_of_one_and_no_text_is_refused(deep):
    assert len(flaxbert.features("yes", model=deep).tokens) == 1
    assert "inputs: none" in refused(flaxbert.features, [], model=deep)
    assert "neither a text nor a pair" in refused(flaxbert.features, [("a", "b", "c")], model=deep)


# --- commands

def test_the_features_command(capsys, deep, tmp_path, texts):
    code, out, err = call(capsys, "features", f"--model={deep}", f"--input={texts}", "--layers=0,last",
                          "--pooling=cls", f"--output={tmp_path}/x.npz")
    assert (code, out) == (0, f"{tmp_path}/x.npz: written\n"), err
    assert np.load(tmp_path / "x.npz")["features"].shape == (3, 2, TINY.hidden_size)
    assert call(capsys, "features", f"--input={texts}")[::2] == (
        2, "flaxbert: --output is needed: FILE.safetensors or FILE.npz, or a folder; FILE.tokens.json beside "
           "tells the tokens.\n")


def test_the_cache_command_lists_and_clears(capsys, tmp_path):
    def fill(into):
        into[0:3] = np.ones((3, 1, 2))
    disk_cache.fetch(tmp_path, "a" * 32, (3, 1, 2), "float16", {"task": "mrpc", "layers": [4, 8]}, fill)
    here = f"--cache_dir={tmp_path}"
    code, out, _ = call(capsys, "cache", "list", here)
    assert code == 0
    assert out.splitlines()[1].split()[4:] == ["float16", "4,8", "mrpc", "?", "?"]
    for flag in ("unused_days", "limit"):
        assert call(capsys, "cache", "list", here, f"--{flag}=1")[::2] == (
            2, f"flaxbert: --{flag}: only with `flaxbert cache clear`\n")
        assert call(capsys, "cache", here, "clear", f"--{flag}=1")[1] == f"{tmp_path}: 0 deleted, 0 B freed\n"
    held = disk_cache.fetch(tmp_path, "a" * 32, (3, 1, 2), "float16", {}, None)
    assert "in use" in call(capsys, "cache", "list", here)[1]
    assert call(capsys, "cache", "clear", here)[1] == f"{tmp_path}: 0 deleted, 0 B freed; 1 in use stay\n"
    del held
    assert call(capsys, "cache", "clear", here)[1].startswith(f"{tmp_path}: 1 deleted, ")
    assert call(capsys, "cache", "list", here)[1] == f"0 in {tmp_path}, 0 B in all\n"


@pytest.mark.parametrize("arguments", [[], ["empty"], ["list", "clear"], ["--cache_dir=x"]])
def test_the_cache_command_wants_a_word(capsys, arguments):
    code, _, err = call(capsys, "cache", *arguments)
    assert code == 2
    assert err.endswith(": say list or clear\n")
    assert err.count("\n") == 1


def test_help_of_the_cache_command_has_its_words(capsys):
    assert call(capsys, "cache", "--help")[1].startswith("flaxbert cache list|clear: ")


def test_features_are_of_one_compiled_program_a_shape(deep, monkeypatch):
    """The model is loaded and compiled once for all batches."""
    traced = []
    real = extraction.Bottom.states

    def spy(self, *args):
        traced.append(jax.tree.map(lambda x: x.shape, args[1]))
        return real(self, *args)
    monkeypatch.setattr(extraction.Bottom, "states", spy)
    monkeypatch.setattr("flaxbert.inference.TOKENS_A_BATCH", 64)
    flaxbert.features(TEXTS * 20, model=deep)
    assert len(traced) == 1
