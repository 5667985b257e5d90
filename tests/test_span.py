"""Spans: no answer and its threshold, and whole runs from end to end."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small import (
    CONTEXT,
    LONG,
    config,
    losses_of,
    question,
    refused,
    result_of,
    settings,
    span_config,
    span_examples,
    span_windows,
    squad,
)

import flaxbert
from flaxbert import evaluation, families, packing, predict, span_metrics, tasks, train
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.export import export
from flaxbert.families import span
from flaxbert.model_files import load_tokenizer
from flaxbert.run import Run

# --- no answer

@pytest.fixture(scope="module")
def half(tokenizer):
    """Forty questions about one context, every other without an answer, and outputs that know a little."""
    names = [f"tall{n}" if n % 5 == 3 else "ring4" for n in range(40)]
    examples = span_examples(*((f"which {n}?", LONG, name if name in LONG and n % 2 else None)
                             for n, name in enumerate(names)))
    windows = span_windows(tokenizer, examples)
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(len(windows.tokens), 2)).astype(np.float32)
    for column in (0, 1):
        outputs[windows.offsets[:-1] + windows.labels[:, column], column] += 3
    return examples, windows, outputs


def test_the_threshold_is_tuned_on_dev_and_used_elsewhere(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad2"), span_config())
    dev = family.scores(outputs, windows, examples)
    assert set(dev) == {"loss", "f1", "exact_match", "has_answer_f1", "has_answer_exact_match",
                        "no_answer_exact_match", "null_threshold"}
    assert all(type(value) is float for value in dev.values())

    def at(threshold):
        scores = families.make(tasks.get("squad2"), span_config(null_threshold=threshold)).scores(
            outputs, windows, examples)
        assert scores["null_threshold"] == threshold
        return scores["f1"]
    odds = [found.odds for found in span.find(outputs, windows, examples.contexts, 20, 30)]
    assert dev["f1"] == pytest.approx(max(at(t) for t in [-100.0, *odds]))
    on_the_edge = family.answers(outputs, windows, examples, {"null_threshold": odds[0]})
    assert on_the_edge[0]["answer"]  # more than the threshold, not as much
    said = [answer["answer"] for answer in on_the_edge]
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    assert span_metrics.evaluate(said, golds, True)["f1"] == pytest.approx(at(odds[0]))
    assert at(100.0) < dev["f1"] > at(-100.0)
    assert family.scores(outputs, windows, examples, dev) == dev
    assert family.scores(outputs, windows, examples, {"null_threshold": 100.0})["f1"] == pytest.approx(at(100.0))
    assert family.scores(outputs, windows, examples, {})["null_threshold"] == 0.0
    assert at(-100.0) == pytest.approx(np.mean([not accepted for accepted in examples.answers]))
    said = [answer["answer"] for answer in family.answers(outputs, windows, examples, dev)]
    assert span_metrics.evaluate(said, golds, True)["f1"] == pytest.approx(dev["f1"])


def test_version_1_always_answers(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad"), span_config(task="squad", null_threshold=-1e9))
    assert all(answer["answer"] for answer in family.answers(outputs, windows, examples))
    assert "null_odds.json" not in written(family, half, "test")


def written(family, half, split, **dev):
    examples, windows, outputs = half
    with tempfile.TemporaryDirectory() as folder:
        family.write(split, outputs, windows, examples, Path(folder), dev)
        return {path.name: json.loads(path.read_text("utf-8")) for path in Path(folder).iterdir()}


def test_official_files(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad2"), span_config(n_best=4))
    files = written(family, half, "test", null_threshold=2.0)
    assert set(files) == {"predictions.json", "nbest.json", "null_odds.json"}
    assert {name.split(".")[0] for name in written(family, half, "dev")} == {"dev"}  # kept apart
    answers = family.answers(outputs, windows, examples, {"null_threshold": 2.0})
    assert files["predictions.json"] == {name: answer["answer"] for name, answer in
                                         zip(examples.ids, answers, strict=True)}
    for name, answer in zip(examples.ids, answers, strict=True):
        ranked = files["nbest.json"][name]
        assert len(ranked) == 5  # four answers and none
        assert sum(entry["probability"] for entry in ranked) == pytest.approx(1)
        scores = [entry["start_logit"] + entry["end_logit"] for entry in ranked]
        assert scores == sorted(scores, reverse=True)
        assert [entry["text"] for entry in ranked].count("") == 1
        best = next(entry for entry in ranked if entry["text"])
        null = next(entry for entry in ranked if not entry["text"])
        odds = null["start_logit"] + null["end_logit"] - best["start_logit"] - best["end_logit"]
        assert files["null_odds.json"][name] == pytest.approx(odds)
        assert answer["answer"] == ("" if odds > 2 else best["text"])
        assert answer["score"] == (null if odds > 2 else best)["probability"]


# --- whole runs

TOY = dict(task="toy_span", max_length=48, doc_stride=16, max_answer_length=8)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "spans"
    train.finetune(config(tiny, folder, **TOY, evals_per_epoch=2, predict_test=True))
    return folder


PAIRS = [("Who bought the horse?", "The farmer bought the horse. The tall nurse sold a cow."), ("Where?", LONG),
         ("Who sold it?", "The farmer bought the horse. The tall nurse sold a cow.")]


def test_a_run_trains_scores_and_writes(run):
    result = result_of(run)
    best = result["best"]
    assert set(best["dev"]) == set(best["test"]) == {"loss", "f1", "exact_match"}
    assert result["main_metric"] == "f1"
    said = json.loads((run / "predictions" / "predictions.json").read_text())
    examples = tasks.load(Config.make(**settings("", "", **TOY)))[1]["test"]
    assert list(said) == examples.ids
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    assert span_metrics.evaluate(list(said.values()), golds) == pytest.approx(
        {name: best["test"][name] for name in ("f1", "exact_match")})
    assert (run / "learning_curve.png").exists()


def test_answers_point_into_the_context_and_stand_alone(run):
    predictor = flaxbert.load(str(run))
    answers = predictor(PAIRS)
    for (_, context), answer in zip(PAIRS, answers, strict=True):
        assert context[answer["start"]:answer["end"]] == answer["answer"] != ""
        assert 0 < answer["score"] <= 1
    for pair, answer in zip(PAIRS, answers, strict=True):
        alone, = predictor([{"question": pair[0], "context": pair[1]}])
        assert (alone["start"], alone["end"]) == (answer["start"], answer["end"])
        assert alone["score"] == pytest.approx(answer["score"], abs=1e-5)
    assert predictor([]) == []
    for value in ("Who?", ("Who?",), ("Who?", ""), {"question": "Who?"}, ("Who?", 3)):
        assert "is no pair of texts, question and context" in refused(predictor, [value])


def test_evaluate_repeats_the_result_and_writes_what_it_scores(run, tmp_path):
    scores = evaluation.evaluate(str(run), write=str(tmp_path))
    best = result_of(run)["best"]["dev"]
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"dev.predictions.json", "dev.nbest.json"}


def test_a_file_without_answers_is_written_but_not_scored(run, tmp_path, capsys):
    asked = question()
    del asked["answers"]
    file = squad(tmp_path / "new.json", asked)
    assert "question q1: has no answer" in refused(evaluation.evaluate, str(run), file=str(file))
    told = evaluation.evaluate(str(run), file=str(file), write=str(tmp_path / "out"))
    assert told == {"run": str(run), "split": str(file), "checkpoint": "best", "examples": 1}
    assert "new.json: has no labels, so no scores" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "out" / "new.predictions.json").read_text())) == {"q1"}


def test_predict_reads_and_writes_files(run, tmp_path):
    context = CONTEXT + "\n\tNew\n\nline\t."
    squad(tmp_path / "in.json", question(), question("q2", "What\tclosed?"), context=context)
    assert predict.predict(str(run), str(tmp_path / "in.json"), str(tmp_path / "out.jsonl")) == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(set(row) == {"id", "answer", "start", "end", "score"} for row in rows)
    assert [row["id"] for row in rows] == ["q1", "q2"]
    predict.predict(str(run), str(tmp_path / "in.json"), str(tmp_path / "out.tsv"))
    header, *lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert header == "id\tanswer\tstart\tend\tscore"
    assert [len(line.split("\t")) for line in lines] == [5, 5]


def test_an_export_answers_alike_here_and_in_pytorch(run, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    export(run, tmp_path / "out")
    ours, exported = flaxbert.load(str(run)), flaxbert.load(str(tmp_path / "out"))
    assert exported.config.max_answer_length == TOY["max_answer_length"]
    for answer, want in zip(exported(PAIRS), ours(PAIRS), strict=True):
        assert (answer["answer"], answer["start"]) == (want["answer"], want["start"])
        assert answer["score"] == pytest.approx(want["score"], abs=1e-6)
    bert = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").eval()
    assert isinstance(bert, transformers.BertForQuestionAnswering)
    windows = ours.encode(ours.family.inputs(PAIRS))
    assert len(windows) > len(PAIRS)
    outputs = ours.outputs(windows)
    for w in range(len(windows)):
        own = slice(*windows.offsets[w:w + 2])
        ids = torch.tensor(windows.tokens[own]).long()[None]
        types = (torch.arange(ids.shape[1]) >= windows.second[w]).long()[None]
        with torch.no_grad():
            out = bert(input_ids=ids, token_type_ids=types)
        want = torch.stack([out.start_logits[0], out.end_logits[0]], 1).numpy()
        np.testing.assert_allclose(outputs[own], want, atol=2e-5)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    del settings["flaxbert"]  # as anybody's fine-tuned model
    (tmp_path / "out" / "config.json").write_text(json.dumps(settings))
    assert [set(answer) for answer in flaxbert.load(str(tmp_path / "out"))(PAIRS)] == [
        {"answer", "start", "end", "score"}] * 3


def test_packed_and_unpacked_give_the_same_answers(run, tmp_path):
    predictor = flaxbert.load(str(run))
    examples = tasks.get("toy_span").generate("dev").head(60)
    windows = predictor.encode(examples)
    assert len(windows) > 60
    one = predictor.outputs(windows)
    predictor._backbone._passes[0,]._packing = False
    other = predictor.outputs(windows)
    np.testing.assert_allclose(one, other, atol=1e-5)
    answers = [predictor.family.answers(outputs, windows, examples) for outputs in (one, other)]
    assert [a["answer"] for a in answers[0]] == [a["answer"] for a in answers[1]]


def test_an_interrupted_run_goes_on_to_the_same_end(tiny, run, tmp_path, monkeypatch):
    given = dict(**TOY, evals_per_epoch=2, predict_test=True)
    count, steps = Run.count, []

    def power_cut(self, *args):
        count(self, *args)
        steps.append(1)
        if len(steps) == 11:
            raise OSError("power cut")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "count", power_cut)
        with pytest.raises(OSError, match="power cut"):
            train.finetune(config(tiny, tmp_path / "cut", **given))
    train.finetune(config(tiny, tmp_path / "cut", **given, resume=True))
    assert losses_of(tmp_path / "cut") == losses_of(run)
    assert result_of(tmp_path / "cut")["best"] == result_of(run)["best"]
    for name in ("predictions.json", "nbest.json"):
        assert (tmp_path / "cut" / "predictions" / name).read_text() == (run / "predictions" / name).read_text()


def test_without_a_test_split_dev_is_predicted_in_its_place(tiny, tmp_path, capsys):
    for split in ("train-v1.1", "dev-v1.1"):
        squad(tmp_path / f"{split}.json", *(question(f"{split}{n}") for n in range(8)))
    result = train.finetune(config(tiny, tmp_path / "run", task="squad", data_dir=str(tmp_path), max_length=48,
                                   max_steps=1, predict_test=True))
    assert "--predict_test: squad has no test split here, dev is predicted in its place" in capsys.readouterr().err
    folder = tmp_path / "run" / "predictions"
    assert {path.name for path in folder.iterdir()} == {"predictions.json", "nbest.json"}
    scores = evaluation.evaluate_file("squad", str(folder / "predictions.json"), data_dir=str(tmp_path))
    assert (scores["split"], scores["examples"]) == ("dev", 8)
    assert {name: scores[name] for name in ("f1", "exact_match")} == pytest.approx(
        {name: result["best"]["dev"][name] for name in ("f1", "exact_match")})


def test_squad2_from_files_tunes_reports_and_keeps_its_threshold(tiny, tmp_path):
    folder = tmp_path
    for split, count in (("train-v2.0", 24), ("dev-v2.0", 12), ("more", 8)):
        squad(folder / f"{split}.json", *(question(f"{split}{n}", f"Who bought {n}?", "farmer" if n % 2 else "")
                                          for n in range(count)))
    train.finetune(config(tiny, folder / "run", task="squad2", data_dir=str(folder), max_length=48, epochs=6.0,
                          evals_per_epoch=0, learning_rate=1e-2, test_file="more.json", predict_test=True))
    losses = list(losses_of(folder / "run").values())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    best = result_of(folder / "run")["best"]
    assert best["test"]["null_threshold"] == best["dev"]["null_threshold"]
    assert {path.name for path in (folder / "run" / "predictions").iterdir()} == {
        "predictions.json", "nbest.json", "null_odds.json"}
    said = json.loads((folder / "run" / "predictions" / "predictions.json").read_text())
    export(folder / "run", folder / "out")
    for source in ("run", "out"):
        predictor = flaxbert.load(str(folder / source))
        assert predictor.dev["null_threshold"] == best["dev"]["null_threshold"]
        asked = [(f"Who bought {n}?", CONTEXT) for n in range(8)]
        assert [answer["answer"] for answer in predictor(asked)] == list(said.values())
    again = evaluation.evaluate(str(folder / "run"), split="test")
    assert again["null_threshold"] == best["dev"]["null_threshold"]
    assert again["f1"] == pytest.approx(best["test"]["f1"])


# --- real data

@pytest.fixture(scope="module")
def vocabulary(outside):
    return load_tokenizer(outside / "models" / "minilm-l6-h384-uncased", BertConfig())


def read_squad(outside, split):
    path = outside / "data" / "squad" / f"{split}-v1.1.json"
    return tasks.read_file(tasks.get("squad"), path, labels_required=True)[0]


def test_the_right_outputs_score_nearly_everything_on_real_data(outside, vocabulary):
    """Words of which the answer is a part are all that is lost (tokens are answered with, not characters)."""
    examples = read_squad(outside, "dev").head(1500)
    family = families.make(tasks.get("squad"), Config.make(task="squad", max_length=384))
    windows = family.encode(vocabulary, examples)
    outputs = np.full((len(windows.tokens), 2), -5, np.float32)
    for column in (0, 1):
        outputs[windows.offsets[:-1] + windows.labels[:, column], column] = 5
    scores = family.scores(outputs, windows, examples)
    assert scores["exact_match"] > 0.98
    assert scores["loss"] < 0.1


def test_padding_share_of_real_windows(outside, vocabulary, record_property):
    examples = read_squad(outside, "train").head(2000)
    lengths = families.make(tasks.get("squad"), Config.make(task="squad", max_length=384)).encode(
        vocabulary, examples).lengths
    row_length = packing.choose_row_length(lengths, 32, 384)
    epochs = packing.Epochs(lengths, 32, row_length, seed=0)
    needed, _ = packing.rows_needed(epochs, 2 * epochs.steps_per_epoch)
    counts = packing.row_counts(needed, 1)
    share = 1 - 2 * lengths.sum() / (row_length * sum(packing.smallest(counts, rows) for rows in needed))
    record_property("padding_share", float(share))
    assert share <= 0.10
