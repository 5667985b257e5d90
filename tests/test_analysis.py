"""`flaxbert analyze`: two models, their texts, one pass over them, the record; and what cannot be compared."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from small import as_jax, batch_of, call, config, refused, write

import flaxbert
from flaxbert import analysis, pretrained, trees
from flaxbert.analysis import attention, figures, models, record, texts
from flaxbert.analysis.base import ANALYSES, Settings, by_analysis
from flaxbert.analysis.models import SIDES, Pair
from flaxbert.analysis.states import Pass, Sample
from flaxbert.analysis.subject import Subject
from flaxbert.config import Config
from flaxbert.export import export

STREAMING = ("rsa", "cka", "shift")


@pytest.fixture(scope="module")
def run(tuned):
    return str(tuned)


@pytest.fixture(scope="module")
def source(deep):
    return pretrained.load(deep)


def changed(source, change):
    """The same model with `change(name, leaf)` for its parameters."""
    return dataclasses.replace(source, params=trees.map_named(change, source.params))


# --- settings

@pytest.mark.parametrize(("given", "says"), [
    (dict(), "--after is needed: The fine-tuned model"),
    (dict(after="x", nothing=1), "--nothing: no such setting; valid: after, before"),
    (dict(after="x", what="rsa,other"), "--what=other: unknown; valid: distance, rsa"),
    (dict(after="x", what=""), "--what: none; valid: distance, rsa"),
    (dict(after="x", what="cka,distance", tokens=9), "--tokens: only for --what=rsa"),
    (dict(after="x", what="distance", input="t.txt"), "--input: only for --what=rsa, cka, shift"),
    (dict(after="x", text_columns="a"), "--text_columns: only with --input"),
    (dict(after="x", what="landscape", grid=5), "--grid: only with --others"),
    (dict(after="x", texts=-1), "--texts=-1: out of range; valid: 0 and more"),
])
def test_settings_say_what_is_wrong(given, says):
    assert says in refused(Settings.make, **given)


def test_lists_come_with_commas_or_as_they_are_and_nothing_twice():
    assert Settings.make(after="x", what=" rsa, cka,rsa").what == ("rsa", "cka")
    assert Settings.make(after="x", what=["rsa", "cka"]).what == ("rsa", "cka")


def test_every_analysis_has_its_module_and_reads_settings():
    fields = {f.name for f in dataclasses.fields(Settings)}
    for each in ANALYSES.values():
        assert callable(each.module.measure), each.name
        assert set(each.reads) <= fields, each.name
        assert hasattr(each.module, "collector") == each.streams, each.name


# --- models

def test_models_of_other_shapes_are_refused(source, tiny, deep):
    shape = dataclasses.replace(source.config, hidden_size=8, layer_norm_eps=1e-5)
    said = refused(Pair, source, dataclasses.replace(source, config=shape))
    assert "hidden_size is 16 and 8; layer_norm_eps is 1e-12 and 1e-05; only models of one shape" in said
    assert "num_hidden_layers is 2 and 1; only" in refused(models.load, tiny, deep)


def test_models_of_other_vocabularies_are_refused(deep, tmp_path):
    other = shutil.copytree(deep, tmp_path / "other")
    file = other / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    here, there = (next(word for word, i in words.items() if i == number) for number in (700, 900))
    words[here], words[there] = words[there], words[here]
    file.write_text(json.dumps(content))
    assert (f"2 tokens of the vocabularies differ, first {here!r}, whose numbers are 700 and 900"
            in refused(models.load, str(other), deep))


def test_weights_that_are_not_finite_are_refused(source):
    def spoil(name, x):
        return np.where(x == x.max(), np.nan, x) if "layer_1/mlp/output/kernel" in name else x
    said = refused(Pair, source, changed(source, spoil))
    assert (f"--after={source.source}: of the numbers of bert/layer_1/mlp/output/kernel 1 are not finite" in said)
    head = dataclasses.replace(source, params={**source.params, "head": {"bias": np.full(2, np.inf)}})
    assert "of the numbers of head/bias 2 are not finite" in refused(Pair, source, head)


def test_what_a_run_started_from_is_read_as_finetune_reads_it(run, tiny, monkeypatch):
    """Its best checkpoint, whichever is asked for of the run; of a frozen encoder where its record says it is."""
    read, calls = pretrained.load, []

    def load(name, checkpoint="best", **given):
        calls.append((name, checkpoint, given.get("revision", "")))
        return read(tiny if name == "moved" else name, checkpoint)
    monkeypatch.setattr(pretrained, "load", load)
    models.load(run, checkpoint="last")
    assert calls == [(run, "last", ""), (tiny, "best", "")]
    models.load(run, tiny, "last")
    assert calls[2:] == [(run, "last", ""), (tiny, "last", "")]
    config, about = models.records.read_run(run)
    backbone = {"model": "moved", "checkpoint": "last", "revision": "r", "fingerprint": "f"}
    monkeypatch.setattr(models.records, "read_run", lambda _: (config, {**about, "backbone": backbone}))
    models.load(run)
    assert calls[-1] == ("moved", "last", "r")


def test_weights_that_are_others_today_are_no_start_unless_they_are_named(run, tiny, monkeypatch):
    config, about = models.records.read_run(run)
    monkeypatch.setattr(models.records, "read_run", lambda _: (config, {**about, "weights": "others"}))
    said = refused(models.load, run)
    assert f"{run}: began from other weights than {tiny} holds today; give --before=MODEL" in said
    assert models.load(run, tiny).before.source == tiny
    monkeypatch.setattr(models.records, "read_run", lambda _: (config, {**about, "weights": None}))
    assert models.load(run).before.source == tiny  # of a run that did not write them down


def test_before_is_what_the_run_started_from(run, deep, tiny, tmp_path):
    found, exported = models.load(run), str(tmp_path / "exported")
    assert found.before.source == tiny
    export(run, exported)
    assert f"--before is needed: {exported} is no run" in refused(models.load, exported)
    again = models.load(exported, tiny)
    assert again.config.task == found.config.task == "toy_sentence"
    assert again.describe()["after"]["fingerprint"] == found.describe()["after"]["fingerprint"]
    assert f"--before is needed: {deep} is no run" in refused(models.load, deep)


# --- texts

def test_own_text_is_the_runs_dev_and_other_text_another_task(source):
    given = config(source.source, "x")
    found = texts.read(Pair(source, source, given), Settings(texts=0))
    assert {name: text.source for name, text in found.items()} == {
        "own": "dev of toy_sentence", "other": "dev of toy_token"}
    assert len(found["own"].encoded) == given.max_eval_examples
    other = texts.read(Pair(source, source, dataclasses.replace(given, task="toy_choice")), Settings(texts=0))
    assert other["other"].source == "dev of toy_sentence"
    assert len(other["own"].encoded) == 4 * given.max_eval_examples  # each choice with its context


@pytest.mark.parametrize(("given", "says"), [
    (dict(task="custom", text_columns=("a",), label_column="b"), "--task=custom needs a train and a dev file"),
    (dict(task="mrpc", data_dir="gone"), "--data_dir=gone: no such folder"),
    (dict(task="pretrain", train_file="gone.txt"), "--train_file=gone.txt: no file gone.txt"),
])
def test_own_texts_that_are_gone_are_left_out(source, tmp_path, capsys, given, says):
    """An export keeps no names of files, and files do not stay where they were."""
    pair = Pair(source, source, Config.make(max_length=32, **given))
    assert [*texts.read(pair, Settings(input=str(write(tmp_path / "t.txt", "The cow saw a ring."))))] == ["other"]
    assert f"{source.source}: its own texts cannot be read ({says}) and are left out" in capsys.readouterr().err
    assert "--data_dir=none: no such folder" in refused(texts.read, pair, Settings(data_dir="none"))


def test_words_that_pre_training_masks_are_put_back(source, text):
    given = Config.make(task="pretrain", train_file=text, max_length=32)
    own = texts.read(Pair(source, source, given), Settings(texts=0))["own"]
    assert source.tokenizer.mask_token_id not in own.encoded.tokens
    begins = own.encoded.tokens[own.encoded.offsets[:-1]]
    assert (begins == source.tokenizer.cls_token_id).all()
    with open(text) as file:
        assert source.tokenizer.decode(own.encoded.tokens[1:9]) in file.read().lower()


def test_texts_and_tokens_are_drawn_by_seed(source, tmp_path):
    file = write(tmp_path / "texts.txt", *(f"{'red ' * n}cow" for n in range(40)))
    pair = Pair(source, source)

    def other(**given):
        return texts.read(pair, Settings(input=str(file), **given))["other"]
    few, again, others = other(texts=7), other(texts=7), other(texts=7, seed=1)
    assert len(few.encoded) == 7
    assert np.array_equal(few.encoded.tokens, again.encoded.tokens)
    assert not np.array_equal(few.encoded.tokens, others.encoded.tokens)
    numbers = few.sample(20, 0)
    assert len(set(numbers.tolist())) == 20
    assert np.array_equal(numbers, again.sample(20, 0))
    assert np.array_equal(few.sample(10 ** 6, 0), np.arange(few.tokens))
    assert max(other(max_length=5).encoded.lengths) == 5


@pytest.mark.parametrize(("given", "says"), [
    (dict(max_length=65), "--max_length=65: the models have positions for 64 tokens"),
    (dict(max_length=2), "--max_length=2: out of range; valid: 3 to 64"),
    (dict(input="none.tsv"), "none.tsv"),
    (dict(data_dir="x"), "--data_dir=x: "),
])
def test_texts_that_cannot_be_read_are_refused(source, given, says):
    assert says in refused(texts.read, Pair(source, source), Settings(**given))


# --- one pass

def test_states_of_the_pass_are_the_features_of_each_model(run, tiny, tmp_path):
    pair = models.load(run)
    lines = ["The cow saw a red ring.", "Nobody talked.", "On Monday the farmer bought two old baskets."]
    found = texts.read(pair, Settings(input=str(write(tmp_path / "t.txt", *lines))))["other"]
    sample = Sample(np.arange(found.tokens), (2, 16))
    Pass(pair).run(found.encoded, [sample])
    for model, states in ((tiny, sample.before), (run, sample.after)):
        expected = flaxbert.features(lines, model=model, layers="0,1")
        np.testing.assert_allclose(states.swapaxes(0, 1), expected.features, atol=1e-5)


# --- the command

def test_a_run_is_analysed_and_recorded(run, tiny, tmp_path, capsys):
    folder = tmp_path / "record"
    code, out, err = call(capsys, "analyze", f"--before={tiny}", f"--after={run}", f"--output={folder}",
                          "--tokens=300", "--texts=60")
    assert code == 0, err
    rows = [json.loads(line) for line in (folder / record.FILE).read_text().splitlines()]
    for name in ("distance", *STREAMING):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{name}: {ANALYSES[name].about}" in out
        assert f"## {name}" in (folder / "table.md").read_text()
    for name in STREAMING:
        own = [row for row in rows if row["analysis"] == name]
        assert {(row["text"], row["layer"]) for row in own} == {(text, layer) for text in ("own", "other")
                                                                for layer in range(2)}
    assert {row["tokens"] for row in rows if row["measure"] == "rsa"} == {300}
    assert {row["anchors"] % 10 for row in rows if row["measure"] == "anchored rsa"} == {0}
    about = json.loads((folder / "analysis.json").read_text())
    assert about["models"]["before"]["model"] == tiny
    assert about["models"]["before"]["fingerprint"] != about["models"]["after"]["fingerprint"]
    assert set(about["analyses"].values()) == {"measured"}
    assert "Not measured" not in (folder / "table.md").read_text()
    assert "flaxbert: other text: dev of toy_token, 60 sequences of " in err
    assert about["texts"]["other"] == {"source": "dev of toy_token", "sequences": 60,
                                       "tokens": about["texts"]["other"]["tokens"]}
    code, _, err = call(capsys, "analyze", f"--after={run}", f"--output={folder}")
    assert (code, "holds an analysis already" in err) == (2, True)


def test_attention_by_layer_head_and_text_and_scores_are_analysed_and_recorded(run, tmp_path, capsys):
    """What the rows say of attention is what the models say of each text, each sequence in a row of its own."""
    folder, what = tmp_path / "record", ("attention", "surgery", "landscape")
    code, out, err = call(capsys, "analyze", f"--after={run}", f"--output={folder}", f"--what={','.join(what)}",
                          "--texts=12", "--examples=8", "--points=2", "--beyond=0")
    assert code == 0, err
    rows = by_analysis(json.loads(line) for line in (folder / record.FILE).read_text().splitlines())
    pair = models.load(run)
    look, found = jax.jit(functools.partial(attention.divergences, pair.shape)), {}
    for name, text in texts.read(pair, Settings(texts=12)).items():
        batch = as_jax(batch_of(text.encoded, range(len(text.encoded)), packed=False)[1])
        told = np.asarray(look([pair.encoders[side] for side in SIDES], batch))[batch["sequence"] > 0]
        found |= {(name, layer + 1, head + 1): (told[:, layer, head].mean(), told[:, layer, head].std())
                  for layer in range(1) for head in range(2)}
    said = {(row["text"], row["layer"], row["head"]): (row["value"], row["spread"]) for row in rows["attention"]}
    assert said.keys() == found.keys()
    for place, values in found.items():
        assert said[place] == pytest.approx(values, rel=1e-3), place
    assert len({round(mean, 6) for mean, _ in said.values()}) == 4  # none passes for another
    [line] = [row[1:] for row in attention.table(rows["attention"]) if row[0] == "1"]
    for number, name in enumerate(("own", "other")):
        heads = [said[name, 1, head][0] for head in (1, 2)]
        assert line[3 * number:3 * number + 3] == [f"{np.mean(heads):.4g}", f"{max(heads):.4g}",
                                                   str(1 + np.argmax(heads))]
    scores = {(row["end"], row["reverted"], row["measure"]): row["value"] for row in rows["surgery"]}
    ends = {row["at"]: row["value"] for row in rows["landscape"] if row["measure"] == "loss"}
    assert ends[1.0] == pytest.approx(scores["top", 0, "loss"], abs=1e-6)
    assert ends[1.0] != pytest.approx(scores["bottom", 1, "loss"], abs=1e-6)
    assert json.loads((folder / "analysis.json").read_text())["analyses"] == dict.fromkeys(what, "measured")
    for name in what:
        assert f"{name}: {ANALYSES[name].about}" in out
        assert (folder / f"{name}.png").stat().st_size > 10_000


def test_what_was_measured_before_an_error_is_kept(tiny, tmp_path, capsys):
    folder, file = tmp_path / "record", write(tmp_path / "t.txt", "The cow saw a red ring.")
    code, out, err = call(capsys, "analyze", f"--before={tiny}", f"--after={tiny}", f"--output={folder}",
                          "--what=distance,rsa,cka", "--tokens=2", f"--input={file}")
    assert code == 2
    said = "rsa, other text, layers 0, 1: 2 tokens are too few, 3 are needed; give more text, or more --tokens"
    assert [line.removeprefix("flaxbert: ") for line in err.splitlines()[-2:]] == [
        f"{folder}: holds what was measured before: distance", said]
    rows = [json.loads(line) for line in (folder / record.FILE).read_text().splitlines()]
    assert {row["analysis"] for row in rows} == {"distance"}
    assert out.startswith("distance: ")
    assert [line.split()[0] for line in out.splitlines() if line] == ["distance:", "layer", "emb.", "1", "pooler"]
    about = json.loads((folder / "analysis.json").read_text())
    assert about["analyses"] == {"distance": "measured", "rsa": said, "cka": "not begun"}
    assert (folder / "table.md").read_text().startswith(f"Not measured: rsa ({said}); cka.\n\n## distance\n")
    assert (folder / "distance.png").exists()


def test_what_was_measured_before_an_interrupt_is_kept(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "record"

    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(Pass, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        flaxbert.analyze(tiny, tiny, what="distance,shift", output=str(folder))
    assert (folder / record.FILE).read_text().startswith('{"analysis": "distance"')
    assert json.loads((folder / "analysis.json").read_text())["analyses"]["shift"] == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        flaxbert.analyze(tiny, tiny, what="shift,distance", output=str(tmp_path / "none"))
    assert not any((tmp_path / "none").iterdir())  # nothing was measured before it


def test_what_goes_wrong_is_said_of_the_analysis_that_it_went_wrong_in(tiny, tmp_path, monkeypatch):
    def states(folder, **given):
        with pytest.raises(ValueError, match=r"JSON compliant|no picture"):
            flaxbert.analyze(tiny, tiny, output=str(tmp_path / folder), texts=5, **given)
        return json.loads((tmp_path / folder / "analysis.json").read_text())["analyses"]
    monkeypatch.setattr("flaxbert.analysis.shift.measure", lambda _: [{"layer": 0, "value": np.nan}])
    found = states("rows", what="distance,shift,cka")
    assert "JSON compliant" in found.pop("shift")
    assert found == {"distance": "measured", "cka": "not begun"}

    def draw(*_):
        raise ValueError("no picture")
    monkeypatch.setattr("flaxbert.analysis.distance.figure", draw)
    assert states("picture", what="distance,cka") == {"distance": "measured", "cka": "not begun"}


@pytest.mark.parametrize(("given", "says"), [
    (dict(after="none"), "none"),
    (dict(what="distance,rsa", input="none.tsv"), "none.tsv"),
    (dict(what="distance,attention", max_length=999), "--max_length=999: the models have positions for 64 tokens"),
    (dict(what="distance,probes", conll_dir="none"), "none: no such folder"),
    (dict(what="distance,surgery", data_dir="none"), "--data_dir=none: "),
])
def test_bad_input_is_told_before_anything_is_measured_and_leaves_no_folder(run, tmp_path, given, says):
    folder = tmp_path / "record"
    assert says in refused(flaxbert.analyze, **{"before": "", "after": run, "output": str(folder), **given})
    assert not folder.exists()


def test_a_record_is_not_mixed_with_other_things(run, tmp_path):
    assert "holds a run or a model already; give another folder" in refused(record.free, run)
    file = write(tmp_path / "file", "x")
    said = refused(flaxbert.analyze, "", run, what="distance", output=str(file))
    assert f"--output={file}: cannot be written (File exists)" in said
    assert record.free("") is None


def test_a_model_beside_itself_has_not_changed(tiny, capsys):
    rows = flaxbert.analyze(tiny, tiny, texts=20, tokens=100)
    assert "the same encoder, to the last bit" in capsys.readouterr().err
    for row in rows:
        same = {"absolute": 0, "relative": 0, "1 - cosine": 0}.get(row["measure"], 1)
        assert row["value"] == pytest.approx(same, abs=1e-6), row
    assert {row["text"] for row in rows if "text" in row} == {"other"}  # it is no run
    assert "cka: " in analysis.describe(rows)


def test_too_few_tokens_are_told_with_layer_and_text(tiny, tmp_path):
    file = str(write(tmp_path / "t.txt", "The cow saw a red ring."))
    assert ("cka, other text, layers 0, 1: 3 tokens are too few, 4 are needed"
            in refused(flaxbert.analyze, tiny, tiny, what="cka", input=file, max_length=3))


@pytest.mark.parametrize(("spoilt", "told"), [
    (("scale",), {"rsa": "tokens are all equally alike, so the correlation is undefined",
                  "cka": "tokens have the same vector"}),
    (("scale", "bias"), {"rsa": "vectors of zeros", "cka": "the same vector", "shift": "vectors of zeros"}),
], ids=["constant", "zeros"])
def test_a_collapsed_layer_has_no_value_and_the_others_have(source, tmp_path, capsys, spoilt, told):
    def collapse(name, x):
        return 0 * x if any(f"layer_1/mlp/layer_norm/{leaf}" in name for leaf in spoilt) else x
    settings = Settings(input=str(write(tmp_path / "t.txt", "The cow saw a red ring.")), what=STREAMING)
    subject = Subject(Pair(source, changed(source, collapse)), settings)
    for name in STREAMING:
        rows = ANALYSES[name].measure(subject)
        json.dumps(rows, allow_nan=False)
        undefined = {2} if name in told else set()
        assert {row["layer"] for row in rows if row["value"] is None} == undefined, name
        assert {row["layer"] for row in rows} == {0, 1, 2}
        lines = [line for line in capsys.readouterr().err.splitlines() if ", layer 2" in line]
        assert [line.startswith(f"flaxbert: {name}, other text, layer 2: ") and told[name] in line
                for line in lines] == [True] * len(undefined)
        figures.lines(rows, tmp_path / "x.png", ANALYSES[name].bounds)
        assert record.by_layer(rows)[-1][0] == "2"


def test_states_that_are_not_finite_are_told_with_side_and_layer(source, tmp_path):
    """Weights may be finite and too large all the same."""
    huge = changed(source, lambda name, x: 1.5e38 * x if "layer_0/mlp/layer_norm/scale" in name else x)
    settings = Settings(input=str(write(tmp_path / "t.txt", "The cow saw a red ring.")), what=STREAMING)
    subject = Subject(Pair(source, huge), settings)
    for name in ("cka", "attention"):
        assert (f"--after={source.source}: its states are not finite from layer 1 on; its weights are too large"
                in refused(ANALYSES[name].measure, subject)), name
