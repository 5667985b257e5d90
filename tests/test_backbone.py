"""One backbone, many heads: runs that leave their encoder as it was keep the head alone, and share one pass."""

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import (
    TINY,
    config,
    equal,
    losses_of,
    question,
    refused,
    result_of,
    squad,
    stop_after,
    write,
)

import flaxbert
from flaxbert import bert, cli, evaluation, fingerprint, heads, lora, predict, pretrained, train, trees
from flaxbert.checkpoint import Checkpoints, load_params
from flaxbert.config import Config
from flaxbert.export import export
from flaxbert.inference import Inference
from flaxbert.prepare import prepare

TEXTS = ["The train to Lisbon was late.", "A good film.",
         "Last week nobody liked the bread we saw near the river."]
PAIRS = [("He left.", "He went away."), ("The cow sleeps.", "The red cow sleeps near the river.")]
SHORT = dict(max_steps=1, learning_rate=0.03, max_train_examples=32, max_eval_examples=8)
# Heads of four kinds of task, on different layers.
RUNS = {
    "topic": dict(task="toy_sentence", strategy="head", evals_per_epoch=4, max_steps=4),
    "certainty": dict(task="toy_regression", strategy="features", layers="embeddings", pooling="attention"),
    "names": dict(task="toy_token", strategy="features", layers="scalar_mix", head="bilstm", head_width=6,
                  head_layers=1, crf=True),
    "logic": dict(task="toy_pair", strategy="features", layers="1,2", head="mlp"),
    "answers": dict(task="toy_span", strategy="features"),
}


def make(model, folder, **given):
    train.finetune(config(model, folder, **{**SHORT, **given}))
    return str(folder)


@pytest.fixture(scope="module")
def runs(deep, tmp_path_factory):
    """Name -> folder of each of RUNS."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: make(deep, folder / name, **given) for name, given in RUNS.items()}


@pytest.fixture(scope="module")
def alone(runs):
    """Name -> predictor of each of them."""
    return {name: flaxbert.load(run) for name, run in runs.items()}


@pytest.fixture(scope="module")
def masked(deep, text, tmp_path_factory):
    """A run that has learnt to tell masked words by the same encoder."""
    return make(deep, tmp_path_factory.mktemp("masked") / "masked", task="pretrain", train_file=text,
                strategy="head")


@pytest.fixture
def done(monkeypatch):
    """Counts what the encoder does: {"passes" over whole inputs, "layers" compiled}."""
    count = {"passes": 0, "layers": 0}
    outputs, layer = Inference.outputs, bert.Layer.__call__

    def counted(what, function):
        def call(*args, **kwargs):
            count[what] += 1
            return function(*args, **kwargs)
        return call
    monkeypatch.setattr(Inference, "outputs", counted("passes", outputs))
    monkeypatch.setattr(bert.Layer, "__call__", counted("layers", layer))
    return count


def close(got, want):
    """Whether two answers are the same to rounding."""
    if isinstance(want, dict):
        assert got.keys() == want.keys()
    if isinstance(want, dict | list | tuple):
        values = (got.values(), want.values()) if isinstance(want, dict) else (got, want)
        for pair in zip(*values, strict=True):
            close(*pair)
    else:
        assert got == (pytest.approx(want, abs=1e-5) if isinstance(want, float) else want)


def changed(run, folder, **settings):
    """A copy of a run with other settings."""
    copied = shutil.copytree(run, folder)
    about = json.loads((copied / "config.json").read_text())
    about["settings"] |= settings
    (copied / "config.json").write_text(json.dumps(about))
    return str(copied)


# --- fingerprints

def test_a_fingerprint_is_the_same_in_all_versions():
    """Else nobody could use the heads that he has saved: whatever `BertConfig` and `fingerprint` come to be."""
    empty = heads.shapes(heads.SequenceModel(TINY, 2))["bert"]
    params = trees.map_named(lambda name, x: (np.arange(x.size) % 97 / 32 + len(name)).astype(np.float32).reshape(
        x.shape), empty)
    assert fingerprint.of_encoder(TINY, params) == \
        "95870707098a805e8839974c2e2f830fc753646813f3a82c81482d06f3c8c304"


def test_a_fingerprint_tells_encoders_apart_and_nothing_else():
    params = trees.to_host(heads.init(heads.SequenceModel(TINY, 2), 0))["bert"]
    whose = fingerprint.of_encoder(TINY, params)
    assert whose == fingerprint.of_encoder(dataclasses.replace(TINY, hidden_dropout_prob=0.5), dict(
        reversed(params.items())))
    other = trees.map_named(lambda name, x: np.nextafter(x, np.float32(1)) if name.endswith("output/bias") else x,
                            params)
    assert len({whose, fingerprint.of_encoder(TINY, other), fingerprint.of_encoder(
        dataclasses.replace(TINY, hidden_act="relu"), params)}) == 3
    assert len(whose) == 64


# --- what is saved

def test_a_frozen_encoder_is_left_out_and_named(runs, deep):
    source = pretrained.load(deep)
    for name, run in runs.items():
        about = json.loads((Path(run) / "config.json").read_text())
        assert about["backbone"] == {"model": deep, "fingerprint": source.fingerprint}, name
        for which in ("best", "last"):
            params, said = load_params(run, which)
            assert "bert" not in params
            assert "head" in params
            assert said["backbone"] == about["backbone"]


@pytest.mark.parametrize(("given", "alone"), [
    (dict(frozen_layers=2), True), (dict(frozen_layers=1, layers="1"), True), (dict(frozen_layers=1), False),
    (dict(strategy="lora"), False), (dict(strategy="head", random_init=True), False),
    (dict(unfreeze="gradual"), True)], ids=str)
def test_which_runs_hold_a_head_alone(deep, given, alone):
    """By what trains, not by names: gradual unfreezing does not come to the encoder in the first epoch."""
    ready = prepare(config(deep, "", **SHORT, cache_frozen="false", **given), 1)
    assert bool(pretrained.backbone(ready.pretrained, ready.trains, ready.task.kind)) == alone


def test_pretraining_saves_its_encoder(masked):
    assert "bert" in load_params(masked)[0]


# --- what comes back

def test_a_head_alone_is_the_whole_model_again(runs, deep):
    run, source = runs["topic"], pretrained.load(deep)
    for which in ("best", "last"):
        loaded = pretrained.load(run, which)
        assert equal(loaded.params["bert"], source.params["bert"])
        assert equal(loaded.params["head"], load_params(run, which)[0]["head"])
    assert result_of(run)["best_step"] == load_params(run)[1]["step"]
    best = result_of(run)["best"]["dev"]
    scores = evaluation.evaluate(run)
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-5)


def test_an_export_is_whole(runs, alone, deep, tmp_path):
    export(runs["topic"], tmp_path / "out")
    assert "bert.encoder.layer.1.output.dense.weight" in load_file(tmp_path / "out" / "model.safetensors")
    assert equal(pretrained.load(str(tmp_path / "out")).params["bert"], pretrained.load(deep).params["bert"])
    close(flaxbert.load(str(tmp_path / "out"))(TEXTS), alone["topic"](TEXTS))


def test_a_run_on_a_run_on_a_run(runs, deep, tmp_path):
    second = make(runs["topic"], tmp_path / "second", strategy="features")
    backbone = json.loads((tmp_path / "second" / "config.json").read_text())["backbone"]
    assert backbone == {"model": runs["topic"], "checkpoint": "best",
                        "fingerprint": pretrained.load(deep).fingerprint}
    assert flaxbert.load(second)(TEXTS)[0]["label"]
    whole = make(second, tmp_path / "whole")
    assert "bert" in load_params(whole)[0]
    start, end = pretrained.load(deep).params["bert"], pretrained.load(whole).params["bert"]
    assert not equal(start, end)
    on_top = make(whole, tmp_path / "on_top", strategy="head")
    assert equal(pretrained.load(on_top).params["bert"], end)
    joint = flaxbert.load([second, runs["certainty"]])
    assert list(joint(TEXTS)[0]) == ["second", "certainty"]
    line = refused(flaxbert.load, [on_top, runs["topic"], second])
    shown = [pretrained.load(path).fingerprint[:12] for path in (on_top, second)]
    assert f"on_top: {shown[0]}; topic, second: {shown[1]}" in line
    assert "heads of different backbones" in line


def test_a_run_on_merged_updates_saves_its_encoder(runs, tmp_path):
    """W + s A B is rounded otherwise on another machine: nothing there would have the fingerprint."""
    source = pretrained.load(runs["topic"])
    trains = trees.map_named(lambda name, _: not name.startswith("bert/"), source.params)
    assert pretrained.backbone(source, trains, "classification")
    run = shutil.copytree(runs["topic"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    checkpoints = Checkpoints(run)
    checkpoints.save_best(1, lora.extend(source.params, Config.make(strategy="lora")), {})
    checkpoints.close()
    source = pretrained.load(str(run))
    assert set(source.params) == {"bert", "pooler", "head"}
    assert pretrained.backbone(source, trains, "classification") is None


def test_of_a_hub_model_the_revision_is_remembered(runs, alone, deep, tmp_path, monkeypatch):
    import huggingface_hub
    new, old = (Path(shutil.copytree(deep, tmp_path / "snapshots" / name)) for name in ("new", "old"))
    change(new)
    asked = []

    def download(name, allow_patterns, revision=""):
        asked.append((name, revision))
        return str(old if revision == "old" else new)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert pretrained.load("some/bert").origin == {"model": "some/bert", "revision": "new"}
    run = shutil.copytree(runs["topic"], tmp_path / "run")
    about = json.loads((run / "config.json").read_text())
    about["backbone"] |= {"model": "some/bert", "revision": "old"}
    (run / "config.json").write_text(json.dumps(about))
    close(flaxbert.load(str(run))(TEXTS), alone["topic"](TEXTS))
    assert asked[-1] == ("some/bert", "old")
    about["backbone"]["revision"] = "new"
    (run / "config.json").write_text(json.dumps(about))
    assert "stands on some/bert, revision new, with the fingerprint" in refused(flaxbert.load, str(run))


def change(model):
    """Another encoder: one bias of its embeddings moved."""
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("embeddings.LayerNorm.bias"))
    save_file({**tensors, name: tensors[name] + 1}, model / "model.safetensors")


# --- gone, changed, interrupted

def test_without_its_backbone_a_run_is_refused_and_kept(runs, deep, tmp_path):
    model = Path(shutil.copytree(deep, tmp_path / "model"))
    given = SHORT | RUNS["topic"]
    stop_after(2, config(str(model), tmp_path / "run", **given))
    run, whose = str(tmp_path / "run"), pretrained.load(deep).fingerprint[:12]
    before = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}

    def line_of(*work, **flags):
        line = refused(*work, **flags)
        assert f"{run}: holds a head alone, which stands on {model} with the fingerprint {whose}" in line
        assert {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()} == before
        return line

    def every():
        going_on = config(str(model), run, **given, resume=True)
        for work in ((flaxbert.load, run), (evaluation.evaluate, run), (export, run, tmp_path / "out"),
                     (predict.predict, run, str(tmp_path / "in.txt")), (train.finetune, going_on),
                     (train.finetune, config(run, tmp_path / "next"))):
            yield line_of(*work)
    model.rename(tmp_path / "moved")
    for line in every():
        assert "it cannot be read" in line
        assert f"say in {run}/config.json (backbone, model) where it is now" in line
    shutil.copytree(tmp_path / "moved", model)
    change(model)
    now = pretrained.load(str(model)).fingerprint[:12]
    assert all(f"what is there now has the fingerprint {now}" in line for line in every())
    assert not (tmp_path / "next").exists()
    # Where it is now can be said; and when it is back the run goes on bitwise.
    about = json.loads((Path(run) / "config.json").read_text())
    about["backbone"]["model"] = str(tmp_path / "moved")
    (Path(run) / "config.json").write_text(json.dumps(about))
    assert flaxbert.load(run)(TEXTS)
    train.finetune(config(str(model), run, **given, resume=True))
    assert losses_of(run) == losses_of(runs["topic"])
    for which in ("best", "last"):
        assert equal(load_params(run, which)[0], load_params(runs["topic"], which)[0])


def test_a_run_that_has_saved_its_encoder_goes_on_saving_it(deep, tmp_path, monkeypatch):
    """One that an earlier version began."""
    model = Path(shutil.copytree(deep, tmp_path / "model"))
    given = SHORT | dict(strategy="head", max_steps=4, cache_frozen="false")
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "backbone", lambda *_: None)
        stop_after(2, config(str(model), tmp_path / "run", **given))
    own = load_params(tmp_path / "run")[0]["bert"]
    change(model)
    train.finetune(config(str(model), tmp_path / "run", **given, resume=True))
    for which in ("best", "last"):
        assert equal(load_params(tmp_path / "run", which)[0]["bert"], own)
    shutil.rmtree(model)
    assert flaxbert.load(str(tmp_path / "run"))(TEXTS)


# --- many heads

def test_heads_of_different_kinds_and_layers_share_one_pass(runs, alone, done):
    names = ["topic", "certainty", "names"]
    joint = flaxbert.load([runs[name] for name in names])
    done.update(passes=0, layers=0)
    answers = joint(TEXTS)
    assert done == {"passes": 1, "layers": 2}
    assert [list(answer) for answer in answers] == [names] * len(TEXTS)
    for name in names:
        close([answer[name] for answer in answers], alone[name](TEXTS))
    assert done["passes"] == 1 + len(names)
    close(joint(TEXTS[:1]), answers[:1])
    assert joint([]) == []


def test_there_is_one_copy_of_the_backbone(runs, tmp_path):
    export(runs["topic"], tmp_path / "exported")  # holds an encoder of its own, which is the same
    joint = flaxbert.load([*runs.values(), str(tmp_path / "exported")])
    assert list(joint.predictors) == [*runs, "exported"]
    arrays = {id(leaf) for each in joint.predictors.values() for leaf in jax.tree.leaves(each.head.params["bert"])}
    assert len(arrays) == len(jax.tree.leaves(pretrained.load(runs["topic"]).params["bert"]))


def test_a_head_that_cuts_texts_otherwise_has_a_pass_of_its_own(runs, alone, tmp_path, done):
    short = changed(runs["topic"], tmp_path / "short", max_length=8)
    joint = flaxbert.load([runs["topic"], short, runs["certainty"]])
    answers = joint(TEXTS)
    assert done["passes"] == 2
    for name, each in {**alone, "short": flaxbert.load(short)}.items():
        if name in answers[0]:
            close([answer[name] for answer in answers], each(TEXTS))
    assert answers[2]["topic"] != answers[2]["short"]
    done.update(passes=0)
    joint(TEXTS[1:2])  # nothing is cut of these
    assert done["passes"] == 1


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "highest"), ("bfloat16", None)])
def test_products_are_as_exact_as_in_training(runs, tmp_path, monkeypatch, dtype, precision):
    """What `parallel.start` sets: float32 would go through TF32 or bfloat16 on accelerators."""
    seen, layer = [], bert.Layer.__call__

    def call(*args, **kwargs):
        seen.append(jax.config.jax_default_matmul_precision)
        return layer(*args, **kwargs)
    both = [changed(runs[name], tmp_path / name, dtype=dtype) for name in ("topic", "certainty")]
    predictors = [flaxbert.load(both[0]), flaxbert.load(both)]
    monkeypatch.setattr(bert.Layer, "__call__", call)
    for predictor in predictors:
        predictor(TEXTS)
    assert seen == [precision] * 4  # two layers of each


def test_masked_words_beside_another_head(runs, alone, masked, done):
    joint = flaxbert.load([masked, runs["topic"]])
    texts = ["The [MASK] was late.", "He [MASK] the film."]
    done.update(passes=0)
    answers = joint(texts)
    assert done["passes"] == 2
    close([answer["masked"] for answer in answers], flaxbert.load(masked)(texts))
    close([answer["topic"] for answer in answers], alone["topic"](texts))


def test_names_are_those_of_folders_or_paths(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    other = shutil.copytree(runs["topic"], tmp_path / "b" / "topic")
    monkeypatch.chdir(tmp_path)
    assert list(flaxbert.load([runs["topic"], "b/topic", runs["names"]]).predictors) == [
        runs["topic"], "b/topic", "names"]
    assert list(flaxbert.load([str(other)]).predictors) == ["topic"]
    for again in ("b/topic", "b/topic/", "b/../b/topic", f"{tmp_path}/b/topic", "~/b/topic"):
        assert "given twice" in refused(flaxbert.load, ["b/topic", again])
    assert "give one at least" in refused(flaxbert.load, [])


@pytest.mark.parametrize(("names", "inputs", "line"), [
    (["topic", "logic"], TEXTS, "logic: inputs: single texts; this model compares two"),
    (["logic", "topic"], PAIRS, "topic: inputs: pairs of texts; this model reads one"),
    (["topic", "names"], [3], "topic: input 0: 3 is neither a text nor a pair of texts"),
    (["names", "topic"], [["two", "words", "and"]], "topic: input 0: ['two', 'words', 'and'] is neither")])
def test_what_one_of_the_heads_does_not_take(runs, names, inputs, line):
    assert refused(flaxbert.load([runs[name] for name in names]), inputs).startswith(line)


# --- files

def test_files_of_several_heads(runs, alone, tmp_path, capsys, monkeypatch):
    several = [runs["topic"], runs["names"]]
    joint = [{"topic": a, "names": b} for a, b in zip(alone["topic"](TEXTS), alone["names"](TEXTS), strict=True)]
    (tmp_path / "in.tsv").write_text("id\tsentence\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)))
    assert predict.predict(several, str(tmp_path / "in.tsv"), str(tmp_path / "out.jsonl")) == len(TEXTS)
    close([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()], joint)
    predict.predict(several, str(tmp_path / "in.tsv"), str(tmp_path / "out.tsv"))
    header, *rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert header == ["topic.label", "topic.probability", "topic.p(society)", "topic.p(nature)", "names.words",
                      "names.entities"]
    assert [row[0] for row in rows] == [answer["topic"]["label"] for answer in joint]
    # Standard input is read once, as the first one's task reads it.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{t}\n" for t in TEXTS).encode())))
    capsys.readouterr()
    assert predict.predict(several[::-1]) == len(TEXTS)
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    close(out, [{"names": answer["names"], "topic": answer["topic"]} for answer in joint])


COLUMNS = "-DOCSTART- O\n\nAnna O\nleft O\n\nRome O\nis O\nold O\n\n-DOCSTART- O\n\nHe O\nslept O\n"


@pytest.mark.parametrize(("name", "other"), [("answers", dict(doc_stride=5, max_query_length=6)),
                                             ("names", dict(context="document"))])
def test_what_a_file_tells_beside_its_texts_is_not_lost(runs, tmp_path, name, other):
    """Ids of questions, documents of sentences."""
    asked = question("q1"), question("q2", "Where?"), {"question": "Why?"}
    files = {"answers": squad(tmp_path / "in.json", *asked),
             "names": write(tmp_path / "in.txt", COLUMNS, end="")}
    both = {name: runs[name], "other": changed(runs[name], tmp_path / "other", **other)}

    def answers(*run):
        predict.predict(list(run), str(files[name]), str(tmp_path / "out.jsonl"))
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    alone, joint = {which: answers(run) for which, run in both.items()}, answers(*both.values())
    for which in both:
        close([row[which] for row in joint], alone[which])
    if name == "answers":
        assert [row["other"].get("id") for row in joint] == ["q1", "q2", None]
    else:
        assert [row["other"]["words"] for row in joint] != [row[name]["words"] for row in joint]


def test_a_run_below_the_home_folder(runs, alone, tmp_path, monkeypatch):
    """A shell leaves the ~ of --run=~/runs/topic as it is."""
    monkeypatch.setenv("HOME", str(Path(runs["certainty"]).parent))
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    monkeypatch.chdir(tmp_path)
    close(flaxbert.load("~/certainty")(TEXTS), alone["certainty"](TEXTS))
    assert list(flaxbert.load(["~/certainty", "~/topic"]).predictors) == ["certainty", "topic"]
    scores = evaluation.evaluate("~/certainty", output="~/scores/dev.json", write="~/written")
    home = Path(runs["certainty"]).parent
    assert json.loads((home / "scores" / "dev.json").read_text()) == scores
    assert any((home / "written").iterdir())
    predict.predict("~/certainty", "in.txt", "~/new/out.tsv")
    assert len((home / "new" / "out.tsv").read_text().splitlines()) == 1 + len(TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_the_command_takes_run_more_than_once(runs, alone, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    given = [f"--run={runs['topic']}", "--run", runs["certainty"], f"--input={tmp_path}/in.txt"]
    cli.main(["predict", *given])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name in ("topic", "certainty"):
        close([row[name] for row in rows], alone[name](TEXTS))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", f"--run={runs['topic']}", f"--run={runs['topic']}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"flaxbert: {runs['topic']}: given twice\n"
    cli.main(["predict", "--help"])
    assert "--run: A run's folder, or an exported one. Several times" in capsys.readouterr().out
